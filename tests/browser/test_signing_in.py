"""Signing in and out in a real browser: keyboard, second factor, forgotten password, sessions that end elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pyotp
import pytest
from playwright.sync_api import Page, expect

from tests.browser.console import Console, a_name

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PASSWORD = "yedi kuru yaprak ve bir fener"


def a_person(console: Console, name: str, *roles: str) -> tuple[str, str]:
    """Make an account through the console and set its first password by its letter; gives address and password."""
    name = a_name(name)
    email = f"{name}@example.com"
    page = console.open("/users/new")
    page.get_by_label("Ad soyad").fill(name.title())
    page.get_by_label("E-posta adresi").fill(email)
    for role in roles:
        page.get_by_label(re.compile(f"^{role}")).check()
    console.press("Hesabı oluştur")
    console.sees("Hesap oluşturuldu")
    token = console.letter_to(email)
    body = {"token": token, "new_password": PASSWORD}
    console.api().call("POST", "/api/v1/auth/reset-password", json=body).raise_for_status()
    return email, PASSWORD


def test_the_keyboard_alone_signs_in_opens_a_page_and_signs_out(console: Console) -> None:
    page, account = console.page, console.system["accounts"]["admin"]
    page.goto("/sign-in")
    expect(page.get_by_label("E-posta adresi")).to_be_focused()
    page.keyboard.type(account["email"])
    page.keyboard.press("Tab")
    page.keyboard.type(account["password"])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: urlsplit(url).path == "/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="İçeriğe geç")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    focus_on(page, "Kuyruklar")
    page.keyboard.press("Enter")
    page.wait_for_url("**/queues")
    focus_on(page, "Oturumu kapat")
    page.keyboard.press("Enter")
    console.sees("Oturumunuz kapatıldı")


def focus_on(page: Page, name: str) -> None:
    """Press Tab until something has the focus, which must be seen to have it."""
    page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"Tab never comes to {name}")


def test_no_script_can_read_the_session(console: Console) -> None:
    page = console.sign_in("admin").page
    assert page.evaluate("document.cookie") == ""
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, {...window.htmx}])")
    # Tokens are JSON in base64, or 43 letters of their own.
    assert not re.search(r"eyJ[\w-]+\.eyJ|[\w-]{43}", kept + page.locator("body").inner_html())
    (cookie,) = [each for each in page.context.cookies() if each["name"] == "__Host-console"]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")


def test_a_link_on_another_site_opens_the_page_of_whoever_is_signed_in(console: Console) -> None:
    page = console.sign_in("admin").page
    target = f"{console.system['gateway_url']}/users?search=Bereket"
    page.goto(target.replace("127.0.0.1", "localhost").split("/users")[0] + "/docs")  # another site, to a browser
    page.evaluate("target => { location.href = target }", target)
    page.wait_for_url(target)
    expect(console.row("Bereket Tohum")).to_be_visible()


def test_a_wrong_password_and_an_odd_address_are_told_clearly(console: Console) -> None:
    page = console.open("/sign-in")
    page.get_by_label("E-posta adresi").fill("admin@example.com")
    page.get_by_label("Parola", exact=True).fill("not the password of this account")
    console.press("Göster")
    expect(page.get_by_label("Parola", exact=True)).to_have_attribute("type", "text")
    console.press("Oturum aç")
    console.sees("E-posta adresi veya parola yanlış.")
    expect(page.get_by_label("E-posta adresi")).to_have_value("admin@example.com")


def test_a_forgotten_password_is_reset_by_the_link_of_the_letter(console: Console) -> None:
    email, _ = a_person(console.sign_in("admin"), "unutkan", "Denetçi")
    console.press("Oturumu kapat")
    page = console.page
    page.get_by_role("link", name="Parolamı unuttum").click()
    first = console.letter_to(email)
    page.get_by_label("E-posta adresi").fill(email)
    console.press("Bağlantı gönder")
    console.sees("bağlantı yola çıktı")
    token = console.letter_to(email, but=first)

    page.goto(f"/reset-password#token={token}")
    expect(page.get_by_label("Sıfırlama kodu")).to_be_hidden()
    assert "token" not in page.url, "the address bar keeps no token"
    page.get_by_label("Yeni parola", exact=True).fill("kısa")
    console.press("Parolayı kaydet")
    console.sees(re.compile("en az 15 karakter"))
    page.get_by_label("Yeni parola", exact=True).fill("dokuz sessiz martı ve eski iskele")
    console.press("Parolayı kaydet")
    console.sees("Yeni parolanız kaydedildi")
    console.sign_in_with(email, "dokuz sessiz martı ve eski iskele")
    expect(page.get_by_role("heading", name="Denetim kaydı")).to_be_visible()

    console.press("Oturumu kapat")
    page.goto(f"/reset-password#token={token}")
    page.get_by_label("Yeni parola", exact=True).fill("on iki mavi kapı ve bir anahtar")
    console.press("Parolayı kaydet")
    console.sees("Sıfırlama kodu geçerli değil")


def test_a_second_factor_is_turned_on_and_asked_for(console: Console, new_page: Callable[..., Page]) -> None:
    email, password = a_person(console.sign_in("admin"), "iki.adim", "Denetçi")
    own = Console(new_page(), console.system).sign_in_with(email, password)
    page = own.open("/account")
    page.locator("#factor-password").fill(password)
    own.press("Aç")
    expect(page.locator("svg.qr")).to_be_visible()
    app = pyotp.TOTP(page.locator("#secret").inner_text())
    page.get_by_label("Uygulamanın gösterdiği kod").fill("000000")
    own.press("Onayla")
    own.sees("Kod yanlış")
    page.get_by_label("Uygulamanın gösterdiği kod").fill(app.now())
    own.press("Onayla")
    expect(page.locator("#codes")).to_be_visible()
    recovery = page.locator("#codes").inner_text().split()[0]
    own.press("Oturumu kapat")

    page.get_by_label("E-posta adresi").fill(email)
    page.get_by_label("Parola", exact=True).fill(password)
    own.press("Oturum aç")
    own.sees("Doğrulama kodu")
    page.get_by_label("Kod", exact=True).fill(recovery)
    own.press("Oturum aç")
    expect(page.get_by_role("heading", name="Denetim kaydı")).to_be_visible()


def test_a_session_that_ended_elsewhere_leads_back_to_where_one_was(
    console: Console, new_page: Callable[..., Page]
) -> None:
    email, password = a_person(console.sign_in("admin"), "gezgin", "Denetçi")
    own = Console(new_page(), console.system).sign_in_with(email, password)
    page = own.open("/audit?outcome=denied")
    console.open(f"/users?search={email}").locator("tbody a").click()
    console.confirm("Oturumlarını kapat", "Evet, kapat")
    console.sees("Bütün oturumları kapatıldı")
    own.follow("Filtrele")
    own.reload_until(page.get_by_text("Oturumunuz sona erdi"))
    page.get_by_label("E-posta adresi").fill(email)
    page.get_by_label("Parola", exact=True).fill(password)
    own.press("Oturum aç")
    page.wait_for_url("**/audit?*outcome=denied*")


def test_the_language_and_the_colours_are_switched_and_kept(console: Console) -> None:
    page = console.sign_in("admin").page
    page.goto("/codes?days=7")
    page.get_by_role("link", name="English").first.click()
    expect(page.get_by_role("heading", name="Codes", exact=True)).to_be_visible()
    assert page.url.endswith("/codes?days=7"), "one stays where one was"
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("link", name="Dark").first.click()
    expect(page.locator("body")).to_have_css("background-color", "rgb(18, 21, 19)")
    page.goto("/users")
    expect(page.get_by_role("heading", name="Admin users")).to_be_visible()
    page.get_by_role("link", name="Türkçe").first.click()
    expect(page.get_by_role("heading", name="Yönetici ve kullanıcılar")).to_be_visible()


def test_everybody_sees_their_own_pages_and_no_others(console: Console, new_page: Callable[..., Page]) -> None:
    def menu(who: str) -> tuple[Console, list[Any]]:
        own = Console(new_page(), console.system).sign_in(who)
        return own, own.page.locator(".side .menu a").all_inner_texts()

    sponsor, entries = menu("sponsor")
    assert entries == ["Davetler", "Kodlar"]
    sponsor.open("/users")
    sponsor.sees("rol hesabınızda yok")
    auditor, entries = menu("auditor")
    assert entries == ["Denetim kaydı"]
    auditor.open("/invitations")
    auditor.sees("rol hesabınızda yok")
