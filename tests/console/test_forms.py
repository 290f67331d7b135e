"""Forms that are not ours change nothing."""

from __future__ import annotations

import pytest

from tests.console.stand_in import ME, PASSWORD, REFRESH, Given, console, refusal
from tests.gateway.raw import send_raw

FORM = {"email": "admin@example.com", "password": PASSWORD}


async def test_a_form_without_the_key_of_this_browser_is_refused_before_anything_is_called() -> None:
    async with console() as stage, stage.another_browser() as other:
        stage.let_in("admin")
        foreign = await other.form_key("/sign-in")
        await stage.browser.get("/sign-in")
        for key in ({}, {"form_key": ""}, {"form_key": foreign}, {"form_key": "ü"}):
            answer = await stage.browser.post("/sign-in", data=FORM | key)
            assert answer.status_code == 403
            assert "Bu form eski" in answer.text
        assert stage.services.asked == []


async def test_a_form_that_another_site_sends_is_refused_even_with_the_key() -> None:
    async with console() as stage:
        stage.let_in("admin")
        key = await stage.browser.form_key("/sign-in")
        for site in ("cross-site", "same-site"):
            answer = await stage.browser.post(
                "/sign-in", data=FORM | {"form_key": key}, headers={"sec-fetch-site": site}
            )
            assert (answer.status_code, "başka bir siteden" in answer.text) == (403, True)
        assert stage.services.asked == []
        own = await stage.browser.post(
            "/sign-in", data=FORM | {"form_key": key}, headers={"sec-fetch-site": "same-origin"}
        )
        assert own.status_code == 303


async def test_a_browser_that_keeps_no_cookies_is_told_so() -> None:
    async with console() as stage:
        key = await stage.browser.form_key("/sign-in")
        async with stage.another_browser() as forgetful:
            answer = await forgetful.post("/sign-in", data=FORM | {"form_key": key})
        assert (answer.status_code, "Çerezlere izin verin" in answer.text) == (403, True)


async def test_a_form_that_is_too_large_or_malformed_or_never_ends_is_refused() -> None:
    async with console() as stage:
        key = await stage.browser.form_key("/sign-in")
        large = await stage.browser.post("/sign-in", data={"form_key": key, "email": "x" * 2_000_000})
        assert large.status_code == 413
        odd = {"content-type": "application/x-www-form-urlencoded"}
        assert (await stage.browser.post("/sign-in", content=b"\xff\xfe=1", headers=odd)).status_code == 400
        assert stage.services.asked == []
    # A gateway of its own, for one so impatient cuts off on a busy machine what is only large.
    async with console(body_seconds=0.3) as stage:
        slow = (
            b"POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n"
            b"content-length: 100\r\n\r\nform_key="
        )
        assert (await send_raw(stage.running.port, slow, seconds=60)).startswith(b"HTTP/1.1 408 ")
        assert stage.services.asked == []


async def test_a_reset_is_asked_for_and_done_and_its_refusals_say_what_to_do() -> None:
    async with console() as stage:
        asked = "POST /api/v1/auth/request-password-reset"
        done = "POST /api/v1/auth/reset-password"
        stage.services.answers[asked] = (200, {"success": True})
        answer = await stage.browser.submit("/forgotten-password", "/forgotten-password", email="a@example.com")
        assert "bağlantı yola çıktı" in answer.text
        assert stage.services.to(asked)[0].json == {"email": "a@example.com"}

        reasons = [{"field": "new_password", "code": "TOO_SHORT", "message": "Use at least 15 characters."}]
        stage.services.answers[done] = (422, refusal("PASSWORD_TOO_WEAK", "too weak", errors=reasons))
        weak = await stage.browser.submit("/reset-password", "/reset-password", token="t0k3n", password="short")
        assert (weak.status_code, "en az 15 karakter" in weak.text) == (422, True)
        assert 'value="t0k3n"' in weak.text, "the token stays usable, so it stays in the form"

        stage.services.answers[done] = (400, refusal("RESET_TOKEN_INVALID", "The reset token is not valid."))
        forged = await stage.browser.submit("/reset-password", "/reset-password", token="t0k3n", password=PASSWORD)
        assert "Yeni bir bağlantı isteyin" in forged.text
        assert "t0k3n" not in forged.text

        stage.services.answers[done] = (200, {"success": True})
        good = await stage.browser.submit("/reset-password", "/reset-password", token="t0k3n", password=f" {PASSWORD} ")
        assert good.headers["location"] == "/sign-in?reason=password_set"
        assert stage.services.to(done)[-1].json == {"token": "t0k3n", "new_password": f" {PASSWORD} "}


async def test_a_session_that_is_over_stops_nobody_who_comes_to_get_in_again() -> None:
    """A browser with its cookie of yesterday: it has to get through a forgotten password at the first try."""
    async with console() as stage:
        stage.let_in("admin", expires_in=1)
        stage.services.answers[REFRESH] = (401, refusal("REFRESH_TOKEN_INVALID", ""))
        for call in ("request-password-reset", "reset-password", "cancel-password-reset"):
            stage.services.answers[f"POST /api/v1/auth/{call}"] = (200, {"success": True})
        await stage.browser.sign_in("admin")
        asked = await stage.browser.submit("/forgotten-password", "/forgotten-password", email="a@example.com")
        assert "bağlantı yola çıktı" in asked.text
        cancelled = await stage.browser.submit("/reset-password", "/reset-password/cancel", token="t0k3n")
        assert cancelled.headers["location"] == "/sign-in?reason=reset_cancelled"
        done = await stage.browser.submit("/reset-password", "/reset-password", token="t0k3n", password=PASSWORD)
        assert done.headers["location"] == "/sign-in?reason=password_set"
        await stage.browser.sign_in("admin")
        again = await stage.browser.submit(
            "/sign-in?reason=expired", "/sign-in", email="a@example.com", password=PASSWORD
        )
        assert again.headers["location"] == "/"
        assert stage.services.to(REFRESH) == []


async def test_a_secret_that_the_page_did_not_send_makes_no_picture_and_no_failure() -> None:
    async with console() as stage:
        stage.let_in("admin")
        stage.services.answers[ME] = (
            200, {"full_name": "A", "email": "a@example.com", "roles": ["Admin"], "has_second_factor": False},
        )  # fmt: skip
        stage.services.answers["GET /api/v1/auth/sessions"] = (200, {"items": [], "next_cursor": None})
        wrong = (401, refusal("SECOND_FACTOR_INVALID", "The code is wrong."))
        stage.services.answers["POST /api/v1/auth/second-factor/confirm"] = wrong
        await stage.browser.sign_in("admin")
        for uri, pictures in (("otpauth://totp/A?secret=ABC", 1), ("x" * 10_000, 0), ("", 1)):
            page = await stage.browser.submit("/account", "/account/second-factor/confirm", code="000000", uri=uri)
            assert (page.status_code, page.text.count('class="qr"')) == (401, pictures)
            assert "Kod yanlış" in page.text


@pytest.mark.parametrize(
    "renewal",
    [(503, refusal("UNAVAILABLE", "away")), (401, refusal("REFRESH_TOKEN_INVALID", "The session has ended."))],
)
async def test_recovery_codes_are_shown_whatever_becomes_of_the_session(renewal: Given) -> None:
    async with console() as stage:
        stage.let_in("admin")
        stage.services.answers["POST /api/v1/auth/second-factor/confirm"] = (200, {"recovery_codes": ["c0de-0ne"]})
        stage.services.answers[REFRESH] = renewal
        await stage.browser.sign_in("admin")
        key = await stage.browser.form_key("/users/new")
        page = await stage.browser.post("/account/second-factor/confirm", data={"form_key": key, "code": "000000"})
        assert (page.status_code, "c0de-0ne" in page.text) == (200, True)
