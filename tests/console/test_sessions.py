"""Who is signed in at the console, and what of it a browser holds."""

from __future__ import annotations

import asyncio
import base64
from http.cookies import SimpleCookie
from typing import Any

import pytest

from services.gateway.domain.console.places import id_in_path, own_path
from services.gateway.domain.console.sessions import Session, open_sealed, seal
from services.gateway.settings import GatewaySettings
from shared.sealing import Sealer
from tests.console.stand_in import FORM_KEY, LOGIN, PASSWORD, REFRESH, Asked, console, refusal, tokens_for

EXPIRED = (401, refusal("REFRESH_TOKEN_INVALID", "The session has ended. Sign in again."))


async def test_signing_in_leads_to_the_page_and_its_cookie_shows_no_token() -> None:
    async with console(cookies_secure=True) as stage:
        stage.let_in("admin")
        first = await stage.browser.get("/sign-in")
        cookie = SimpleCookie(first.headers["set-cookie"])["__Host-console"]
        assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"], cookie["domain"]) == (
            True,
            True,
            "strict",
            "/",
            "",
        )
        header = {"cookie": f"__Host-console={cookie.value}"}
        key = first.text.split('name="form_key" value="')[1].split('"')[0]
        form = {"form_key": key, "email": "admin@example.com", "password": PASSWORD}
        answer = await stage.browser.post("/sign-in", data=form, headers=header)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        value = SimpleCookie(answer.headers["set-cookie"])["__Host-console"].value
        token = stage.services.answers[LOGIN][1]["access_token"]  # type: ignore[index]
        opened = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        for secret in (token, "refresh-1", "admin@example.com"):
            assert secret not in answer.text + str(answer.headers)
            assert secret.encode() not in opened


async def test_a_sign_in_changes_the_key_of_forms() -> None:
    async with console() as stage:
        stage.let_in("admin")
        before = await stage.browser.form_key("/sign-in")
        await stage.browser.sign_in("admin")
        assert await stage.browser.form_key("/") != before
        old = await stage.browser.post("/sign-out", data={"form_key": before})
        assert old.status_code == 403, "a form from before the sign-in counts no more"


async def test_a_wrong_password_is_said_and_nobody_is_signed_in() -> None:
    async with console() as stage:
        stage.services.answers[LOGIN] = (
            401,
            refusal("INVALID_CREDENTIALS", "The e-mail address or the password is wrong."),
        )
        answer = await stage.browser.sign_in("admin")
        assert answer.status_code == 401
        assert "E-posta adresi veya parola yanlış." in answer.text
        assert PASSWORD not in answer.text
        assert (await stage.browser.get("/")).headers["location"] == "/sign-in"


async def test_the_second_factor_is_asked_for_and_the_password_stays_sealed_meanwhile() -> None:
    async with console() as stage:

        def login(asked: Asked) -> tuple[int, object]:
            if asked.json.get("code") == "123456" and asked.json["password"] == PASSWORD:
                return 200, tokens_for(stage.issuer, "admin")
            if len(asked.json.get("code", "123456")) < 6:
                return 422, refusal("VALIDATION_FAILED", "", errors=[{"field": "code", "message": "too short"}])
            code = "SECOND_FACTOR_INVALID" if "code" in asked.json else "SECOND_FACTOR_REQUIRED"
            return 401, refusal(code, "")

        stage.services.answers[LOGIN] = login
        page = await stage.browser.sign_in("admin")
        assert 'name="code"' in page.text
        assert PASSWORD not in page.text
        ticket = page.text.split('name="ticket" value="')[1].split('"')[0]
        key = page.text.split('name="form_key" value="')[1].split('"')[0]
        wrong = await stage.browser.post("/sign-in/code", data={"form_key": key, "ticket": ticket, "code": "000000"})
        assert (wrong.status_code, "Kod yanlış" in wrong.text) == (401, True)
        short = await stage.browser.post("/sign-in/code", data={"form_key": key, "ticket": ticket, "code": "123 45"})
        assert (short.status_code, "Kod yanlış" in short.text, 'name="ticket"' in short.text) == (401, True, True)
        right = await stage.browser.post("/sign-in/code", data={"form_key": key, "ticket": ticket, "code": "123 456"})
        assert (right.status_code, right.headers["location"]) == (303, "/")


async def test_a_ticket_of_another_browser_is_worth_nothing() -> None:
    async with console() as stage, stage.another_browser() as other:
        stage.services.answers[LOGIN] = (401, refusal("SECOND_FACTOR_REQUIRED", ""))
        page = await stage.browser.sign_in("admin")
        ticket = page.text.split('name="ticket" value="')[1].split('"')[0]
        asked = len(stage.services.asked)
        answer = await other.submit("/sign-in", "/sign-in/code", ticket=ticket, code="123456")
        assert answer.status_code == 400
        assert len(stage.services.asked) == asked


async def test_pages_opened_at_once_with_an_expired_token_are_renewed_and_keep_their_forms() -> None:
    async with console() as stage:
        stage.let_in("admin", expires_in=1)
        await stage.browser.sign_in("admin")
        old = dict(stage.browser.cookies)
        stage.services.answers[REFRESH] = (200, tokens_for(stage.issuer, "admin", number=2))
        pages = await asyncio.gather(
            *(stage.browser.get("/", headers={"cookie": f"console={old['console']}"}) for _ in range(5))
        )
        assert {page.status_code for page in pages} == {200}
        assert {asked.json["refresh_token"] for asked in stage.services.to(REFRESH)} == {"refresh-1"}
        assert len({FORM_KEY.search(page.text)[1] for page in pages}) == 1  # type: ignore[index]
        before = len(stage.services.to(REFRESH))
        assert (await stage.browser.get("/")).status_code == 200
        assert len(stage.services.to(REFRESH)) == before, "the browser has the new token now"


async def test_a_token_that_the_gateway_refuses_is_renewed_once() -> None:
    async with console() as stage:
        stage.let_in("admin", exp=1)
        await stage.browser.sign_in("admin")
        stage.services.answers[REFRESH] = (200, tokens_for(stage.issuer, "admin", number=2))
        assert (await stage.browser.get("/")).status_code == 200
        assert len(stage.services.to(REFRESH)) == 1


async def test_a_session_that_is_over_leads_to_the_sign_in_and_back_to_the_page() -> None:
    async with console() as stage:
        stage.let_in("admin", expires_in=1)
        stage.services.answers[REFRESH] = EXPIRED
        await stage.browser.sign_in("admin")
        page = await stage.browser.get("/")
        assert page.headers["location"].startswith("/sign-in?reason=expired")
        shown = await stage.browser.get(page.headers["location"])
        assert "Oturumunuz sona erdi" in shown.text
        assert len(stage.services.to(REFRESH)) == 1, "a refresh token that was refused is not tried again"


async def test_signing_out_ends_the_session_at_auth_and_in_the_browser() -> None:
    async with console() as stage:
        stage.let_in("admin")
        stage.services.answers["POST /api/v1/auth/logout"] = (200, {"success": True})
        await stage.browser.sign_in("admin")
        answer = await stage.browser.submit("/", "/sign-out")
        assert answer.headers["location"] == "/sign-in?reason=signed_out"
        (asked,) = stage.services.to("POST /api/v1/auth/logout")
        assert asked.headers["authorization"].startswith("Bearer ")
        assert (await stage.browser.get("/")).headers["location"] == "/sign-in"


async def test_an_answer_that_breaks_off_keeps_nobody_signed_in() -> None:
    async with console() as stage:
        stage.let_in("admin")
        stage.services.cut.add("POST /api/v1/auth/logout")
        await stage.browser.sign_in("admin")
        answer = await stage.browser.submit("/", "/sign-out")
        assert answer.headers["location"] == "/sign-in?reason=signed_out"
        assert (await stage.browser.get("/")).headers["location"] == "/sign-in"


async def test_a_link_in_a_mail_resets_also_where_a_longer_session_left_its_further_cookies() -> None:
    """The browser holds its cookies back from such a link, so the page knows nothing of them and replaces the first."""
    async with console() as stage, stage.another_browser() as held_back:
        done = "POST /api/v1/auth/reset-password"
        stage.services.answers[done] = (200, {"success": True})
        stage.let_in("admin", obo=[number * 7919 % 1_000_003 for number in range(600)])
        await stage.browser.sign_in("admin")
        assert "console-2" in stage.browser.cookies
        key = await held_back.form_key("/reset-password")
        cookies = dict(stage.browser.cookies) | dict(held_back.cookies)
        fields = {"form_key": key, "token": "t0k3n", "password": PASSWORD}
        header = "; ".join(f"{name}={value}" for name, value in cookies.items())
        async with stage.another_browser(headers={"cookie": header}) as browser:
            answer = await browser.post("/reset-password", data=fields)
        assert answer.headers.get("location") == "/sign-in?reason=password_set"


async def test_a_call_of_the_console_says_who_asks_from_where_under_the_request_id_of_the_page() -> None:
    async with console() as stage:
        stage.let_in("admin")
        key = await stage.browser.form_key("/sign-in")
        answer = await stage.browser.post(
            "/sign-in",
            data={"form_key": key, "email": "admin@example.com", "password": PASSWORD},
            headers={"x-request-id": "from-a-test", "user-agent": "a browser"},
        )
        (asked,) = stage.services.to(LOGIN)
        assert (asked.headers["x-request-id"], answer.headers["x-request-id"]) == ("from-a-test", "from-a-test")
        assert (asked.headers["user-agent"], asked.headers["x-forwarded-for"]) == ("a browser", "127.0.0.1")


async def test_sign_ins_at_the_console_are_limited_like_those_of_any_client() -> None:
    async with console(sign_ins_per_minute=2) as stage:
        stage.services.answers[LOGIN] = (401, refusal("INVALID_CREDENTIALS", ""))
        answers = [await stage.browser.sign_in("admin") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert "saniye sonra yeniden deneyin" in answers[-1].text


async def test_a_link_from_elsewhere_opens_the_page_with_the_cookie_that_the_browser_held_back() -> None:
    async with console() as stage, stage.another_browser() as other:
        from_a_mail = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        answer = await other.get("/users?search=a", headers=from_a_mail)
        assert answer.status_code in {200, 404}
        answer = await other.get("/", headers=from_a_mail)
        assert '<meta http-equiv="refresh" content="0;url=/">' in answer.text
        assert "set-cookie" not in answer.headers, "a new session would replace the one that was held back"
        reset = await other.get("/reset-password", headers=from_a_mail)
        assert "http-equiv" not in reset.text, "the token's fragment must stay"


# --- what is in the cookie


@pytest.mark.parametrize("length", [10, 3_000, 7_000])
def test_a_long_token_is_spread_over_several_cookies(length: int) -> None:
    sealer = Sealer([b"k" * 32])
    token = base64.b64encode(bytes((n * 7919) % 251 for n in range(length))).decode()
    session = Session("key", access_token=token, refresh_token="r", expires_at=1.5)
    pieces = seal(session, sealer)
    assert max(map(len, pieces)) < 4_000
    assert open_sealed(pieces, sealer) == session


def test_damaged_and_foreign_cookies_are_no_session() -> None:
    sealer = Sealer([b"k" * 32])
    (value,) = seal(Session("key"), sealer)
    assert open_sealed([value], Sealer([b"o" * 32, b"k" * 32])) == Session("key"), "an older key still opens"
    # In the middle, where each letter counts whole: another end may say the same bits.
    changed = value[:60] + ("B" if value[60] == "A" else "A") + value[61:]
    for odd in (changed, "", "ç", value[:20], "A" * 4_000):
        assert open_sealed([odd], sealer) is None
    assert open_sealed([value], Sealer([b"o" * 32])) is None


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "", "/a\nb", "/<script>"],
)
def test_nobody_is_sent_to_another_host(target: str) -> None:
    assert own_path(target, "/") == "/"
    assert own_path("/users?search=a%20b&next=c", "/") == "/users?search=a%20b&next=c"


def test_an_id_in_an_address_can_not_reach_another_path() -> None:
    assert id_in_path("0199d6f2-7c1b") == "0199d6f2-7c1b"
    assert id_in_path("../users?a=1#b%2f") == "usersa1b2f"
    assert id_in_path("ü") == "-", "without an id the path would be that of the list"


def test_production_wants_keys_of_its_own_and_secure_cookies() -> None:
    urls: dict[str, Any] = {
        f"{name}_url": "http://127.0.0.1:1" for name in ("auth", "referrals", "invitations", "audit")
    }
    production: dict[str, Any] = {**urls, "amqp_url": "amqp://127.0.0.1", "environment": "production"}
    with pytest.raises(ValueError, match="GATEWAY_SECRET_KEYS is the default of development"):
        GatewaySettings(**production)
    own = base64.b64encode(bytes(range(32))).decode()
    with pytest.raises(ValueError, match="GATEWAY_COOKIES_SECURE"):
        GatewaySettings(**production, secret_keys=own, cookies_secure=False)
    assert GatewaySettings(**production, secret_keys=own).cookies_secure
    with pytest.raises(ValueError, match="must be a time zone"):
        GatewaySettings(**urls, amqp_url="amqp://127.0.0.1", time_zone="Mars/Olympus")
