"""Invitations and codes in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.console import Console, phones, spreadsheet

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ENDED = re.compile("^(Hatalarla tamamlandı|Başarısız)$")


@pytest.fixture
def sponsor(console: Console) -> Console:
    return console.sign_in("sponsor")


def upload(console: Console, path: Path) -> None:
    page = console.open("/invitations/upload")
    page.set_input_files("#file", path)
    console.press("Önizle")


def test_a_file_that_is_no_spreadsheet_is_refused_with_what_to_do(sponsor: Console, tmp_path: Path) -> None:
    broken = tmp_path / "liste.xlsx"
    broken.write_bytes(b"%PDF-1.7 no spreadsheet at all")
    upload(sponsor, broken)
    sponsor.sees(re.compile("kaydedip yeniden yükleyin|yeniden kaydedin"))
    sponsor.sees("Hiçbir davet gönderilmedi")
    expect(sponsor.page.get_by_role("button", name=re.compile("daveti gönder"))).to_have_count(0)
    headless = spreadsheet(tmp_path / "basliksiz.xlsx", [["Ad", "Köy"], ["Ahmet", "Köy"]])
    upload(sponsor, headless)
    sponsor.sees("Telefon sütunu bulunamadı")


def test_a_preview_that_no_longer_fits_the_form_can_not_be_sent(sponsor: Console, tmp_path: Path) -> None:
    upload(sponsor, spreadsheet(tmp_path / "a.xlsx", [["Telefon"], *[[phone] for phone in phones(2)]]))
    expect(sponsor.page.get_by_role("button", name="2 daveti gönder")).to_be_visible()
    sponsor.page.get_by_label("Mesaj metni").fill("Merhaba {farmerName}: {deepLink}")
    expect(sponsor.page.get_by_role("button", name="2 daveti gönder")).to_have_count(0)
    sponsor.page.get_by_label("Mesaj metni").fill("Merhaba {ad}")
    sponsor.press("Önizle")
    sponsor.sees("Bilinmeyen alan")


def test_failed_rows_are_told_and_tried_again(sponsor: Console, tmp_path: Path) -> None:
    rows = [["Telefon", "Paket"], *[[phone, "XL"] for phone in phones(45)]]
    upload(sponsor, spreadsheet(tmp_path / "cok.xlsx", rows))
    sponsor.sees("XL: 45 gerekli")
    sponsor.press("45 daveti gönder")
    sponsor.page.wait_for_url(re.compile("/jobs/"))
    expect(sponsor.page.locator(".badge", has_text=ENDED)).to_be_visible(timeout=60_000)
    retry = sponsor.page.get_by_role("button", name=re.compile(r"^\d+ başarısız satırı yeniden dene$"))
    failed = int(retry.inner_text().split()[0])
    body = {"sponsorId": 6, "tier": "XL", "count": failed}
    sponsor.api().call("POST", "/api/Sponsorship/admin/codes", json=body).raise_for_status()
    retry.click()
    sponsor.sees(f"{failed} satır yeniden sıraya alındı.")
    expect(sponsor.page.locator(".badge", has_text=re.compile("^Tamamlandı$"))).to_be_visible(timeout=60_000)


def test_an_invitation_is_found_opened_sent_again_and_cancelled(sponsor: Console) -> None:
    (phone,) = phones(1)
    body = {"phone": phone, "farmerName": "Zeynep Arayan", "codeCount": 1, "packageTier": "S"}
    sponsor.api("sponsor").call("POST", "/api/Sponsorship/farmer/invite", json=body).raise_for_status()
    page = sponsor.open("/invitations")
    page.get_by_label("Telefon").fill(phone)
    sponsor.press("Filtrele")
    sponsor.row("Zeynep Arayan").get_by_role("link").click()
    expect(page.get_by_role("heading", name="Zeynep Arayan")).to_be_visible()
    assert "/ref/" in page.locator("#link").inner_text()
    sponsor.press("Yeniden gönder")
    sponsor.sees("Mesaj yeniden gönderiliyor.")
    page.locator("summary", has_text="Daveti iptal et").click()
    sponsor.press("Vazgeç")
    expect(page.get_by_role("button", name="Evet, iptal et")).to_be_hidden()
    sponsor.confirm("Daveti iptal et", "Evet, iptal et")
    sponsor.sees("Davet iptal edildi; kodlar stoka döndü.")
    expect(page.locator(".head .badge")).to_have_text("İptal edildi")
    sponsor.open("/invitations?phone=123")
    sponsor.sees(re.compile("[Tt]elefon|numara"))


def test_rows_pasted_from_excel_are_invited_on_a_sponsors_behalf(console: Console) -> None:
    first, second = phones(2)
    page = console.sign_in("admin").open("/invitations/on-behalf")
    expect(console.row("Eski Tohum")).to_contain_text("Kapalı")
    page.get_by_role("link", name="Bereket Tohum sponsorunu seç").click()
    pasted = f"Telefon\tÇiftçi\tAdet\tPaket\n{first}\tAhmet Yılmaz\t2\tM\n{second}\tAyşe\tçok\tM"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("text => navigator.clipboard.writeText(text)", pasted)
    page.locator("#pasted").focus()
    page.keyboard.press("Control+V")
    names = page.locator('input[name="farmerName"]')
    expect(names.nth(0)).to_have_value("Ahmet Yılmaz")
    expect(names.nth(1)).to_have_value("Ayşe")
    console.press("Davetleri gönder")
    console.sees("1 satırda hata var; hiçbir davet gönderilmedi")
    counts = page.locator('input[name="codeCount"]')
    expect(counts.nth(0)).to_have_value("2")
    counts.nth(1).fill("100")
    console.press("Davetleri gönder")
    console.sees("1 davet gönderildi, 1 gönderilemedi.")
    expect(console.row(second)).to_contain_text("Yetersiz kod")
    console.row(first).get_by_role("link").click()
    expect(page.get_by_role("heading", name="Ahmet Yılmaz")).to_be_visible()


def test_codes_are_added_counted_and_drawn(console: Console) -> None:
    console.sign_in("admin")
    (phone,) = phones(1)
    body = {
        "sponsorId": 6,
        "recipients": [{"phone": phone, "farmerName": "Kabul", "codeCount": 3, "packageTier": "L"}],
    }
    sent = console.api().call("POST", "/api/Sponsorship/admin/farmer/invitations/bulk", json=body).json()
    link = sent["data"]["results"][0]["invitationToken"]
    console.api().call("POST", f"/ref/{link}/accept").raise_for_status()
    page = console.open("/codes?sponsor=6")
    expect(page.locator("svg.chart rect.tier-L").first).to_be_attached()
    before = int(page.locator("tbody tr", has_text="XL").locator("td").nth(2).inner_text().replace(".", ""))
    page.get_by_label("Paket").select_option("XL")
    page.get_by_label("Adet").fill("7")
    console.press("Kod ekle")
    console.sees("7 kod eklendi.")
    after = int(page.locator("tbody tr", has_text="XL").locator("td").nth(2).inner_text().replace(".", ""))
    assert after == before + 7
    page.get_by_label("Sponsor no").fill("999")
    page.get_by_label("Adet").fill("1")
    console.press("Kod ekle")
    console.sees("Bu numarada bir sponsor yok.")
    expect(page.get_by_label("Adet")).to_have_value("1")
