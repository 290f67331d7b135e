"""What each page asks of the interface, whom it lets in, and what it says when something fails."""

from __future__ import annotations

import html
import re
from typing import Any

import orjson
import pytest

from services.gateway.routes.console import ROUTERS
from tests.console.stand_in import LOGIN, ME, PASSWORD, REFRESH, Asked, Stage, console, refusal, tokens_for
from tests.gateway.raw import send_raw

ONLY_FROM_HERE = {
    "default-src": "'none'",
    **{f"{kind}-src": "'self'" for kind in ("script", "style", "img", "connect", "font")},
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
EMPTY: tuple[int, Any] = (200, {"items": [], "next_cursor": None})
# One address of each page, and who may open it.
PAGES = {
    "/": {"admin"},
    "/partner-center": {"admin"},
    "/referrals": {"admin"},
    "/referrals/abc": {"admin"},
    "/invitations": {"admin", "sponsor"},
    "/invitations/upload": {"admin", "sponsor"},
    "/invitations/template": {"admin", "sponsor"},
    "/invitations/on-behalf": {"admin"},
    "/invitations/7": {"admin", "sponsor"},
    "/invitations/jobs/7": {"admin", "sponsor"},
    "/invitations/jobs/7/events": {"admin", "sponsor"},
    "/invitations/jobs/7/results": {"admin", "sponsor"},
    "/codes": {"admin", "sponsor"},
    "/users": {"admin"},
    "/users/new": {"admin"},
    "/users/7": {"admin"},
    "/audit": {"admin", "auditor"},
    "/audit/verification": {"admin", "auditor"},
    "/audit/export": {"admin", "auditor"},
    "/audit/0199d6f2-7c1b-7c44-9f0e-3f6a5f2b8c11": {"admin", "auditor"},
    "/queues": {"admin"},
    "/queues/all": {"admin"},
    "/queues/auth": {"admin"},
    "/queues/auth/letters/1": {"admin"},
    "/overview": {"admin"},
    "/account": {"admin", "sponsor", "auditor", "player"},
    "/partner-center/syncs": {"admin"},
    "/partner-center/sign-in/0199d6f2-7c1b-7c44-9f0e-3f6a5f2b8c11": {"admin"},
    "/partner-center/sign-in/0199d6f2-7c1b-7c44-9f0e-3f6a5f2b8c11/state": {"admin"},
}
FOR_ALL = {
    "/sign-in", "/sign-in/code", "/sign-out", "/forgotten-password", "/reset-password", "/language/{language}",
    "/theme/{theme}", "/static/{name}",
}  # fmt: skip


async def as_person(stage: Stage, who: str) -> None:
    stage.let_in(who)
    await stage.browser.sign_in(who)


@pytest.mark.parametrize("who", ["admin", "sponsor", "auditor", "player"])
async def test_a_page_opens_to_its_roles_and_calls_nothing_for_others(who: str) -> None:
    async with console() as stage:
        await as_person(stage, who)
        for path, allowed in PAGES.items():
            asked = len(stage.services.asked)
            answer = await stage.browser.get(path)
            if who in allowed:
                assert answer.status_code != 403, path
            elif path == "/":
                assert answer.headers["location"] in {"/invitations", "/audit", "/account"}
            else:
                assert (answer.status_code, "rol hesabınızda yok" in answer.text) == (403, True), path
                assert len(stage.services.asked) == asked, path


async def test_every_page_sends_a_stranger_to_the_sign_in_and_back() -> None:
    async with console() as stage:
        for path in PAGES:
            answer = await stage.browser.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in"), path
        assert answer.headers["location"].endswith(f"next={path.replace('/', '%2F')}")
        assert stage.services.asked == []


def test_every_route_is_in_the_table_of_who_may_open_it() -> None:
    shapes = {re.compile("[^/]+".join(map(re.escape, re.split(r"{\w+}", path)))) for path in _paths("GET") - FOR_ALL}
    assert {shape.pattern for shape in shapes if not any(shape.fullmatch(path) for path in PAGES)} == set()


async def test_every_form_of_the_console_wants_its_key() -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        asked = len(stage.services.asked)
        for path in _paths("POST"):
            answer = await stage.browser.post(re.sub(r"{\w+}", "7", path), data={"a": "b"})
            assert answer.status_code == 403, path
            assert "Bu form eski" in answer.text
        assert len(stage.services.asked) == asked


def _paths(method: str) -> set[str]:
    return {
        route.path  # type: ignore[attr-defined]
        for router in ROUTERS
        for route in router.routes
        if method in getattr(route, "methods", set())
    }


async def test_every_page_has_the_policy_and_stays_in_no_cache() -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        for path in [*PAGES, "/sign-in", "/reset-password", "/users/no-number"]:
            headers = (await stage.browser.get(path)).headers
            policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
            assert policy == ONLY_FROM_HERE, path
            assert headers["cache-control"] == "no-store", path
            assert headers["x-frame-options"] == "DENY"
        static = await stage.browser.get("/static/console.css?v=1")
        assert static.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (await stage.browser.get("/static/vendored.toml")).status_code == 404


# --- when something fails


async def test_a_service_that_is_away_is_said_with_the_request_id_and_nothing_of_it_leaks() -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        stage.services.answers["GET /api/v1/auth/users"] = (500, b"Traceback: secret")
        answer = await stage.browser.get("/users")
        assert answer.status_code == 500
        assert "servisi şu anda yanıt vermiyor" in answer.text
        assert answer.headers["x-request-id"] in answer.text
        assert "secret" not in answer.text


async def test_home_shows_what_it_can_while_services_are_away() -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        stage.services.answers["GET /api/referrals/connection"] = (503, refusal("UNAVAILABLE", "away"))
        stage.services.answers["GET /api/v1/auth/queues"] = (
            200,
            {
                "items": [
                    {"name": "auth.events", "kind": "work", "messages": 1234, "consumers": 0},
                    {"name": "auth.dead", "kind": "dead", "messages": 2, "consumers": 0},
                ]
            },
        )
        answer = await stage.browser.get("/")
        assert answer.status_code == 200
        assert "1.234" in answer.text
        assert "Alıcı yok" in answer.text
        assert "servisi şu anda yanıt vermiyor" in answer.text
        stage.services.cut.add("GET /api/v1/audit/queues")
        answer = await stage.browser.get("/")
        assert (answer.status_code, "1.234" in answer.text) == (200, True), "one answer broke off, the others did not"


async def test_a_refused_action_leads_back_to_what_it_belongs_to() -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        stage.services.answers["POST /api/Sponsorship/farmer/invitations/bulk/7/retry"] = (
            409,
            refusal("NOTHING_TO_RETRY", "Yeniden denenecek başarısız satır yok"),
        )
        key = await stage.browser.form_key("/users/new")
        answer = await stage.browser.post("/invitations/jobs/7/retry", data={"form_key": key})
        assert answer.status_code == 409
        assert "Yeniden denenebilecek başarısız satır yok" in answer.text
        assert 'href="/invitations/jobs/7"' in answer.text
        part = await stage.browser.post("/invitations/jobs/7/retry", headers={"x-form-key": key, "hx-request": "true"})
        assert (part.headers["hx-retarget"], "<html" in part.text) == ("#notice", False)


async def test_a_part_of_a_page_whose_session_is_over_sends_the_whole_page_to_the_sign_in() -> None:
    async with console() as stage:
        stage.let_in("admin", expires_in=1)
        stage.services.answers[REFRESH] = (401, refusal("REFRESH_TOKEN_INVALID", ""))
        await stage.browser.sign_in("admin")
        part = await stage.browser.get("/queues/all", headers={"hx-request": "true"})
        assert part.headers["hx-redirect"] == "/sign-in?reason=expired&next=%2Fqueues"


async def test_who_must_enrol_a_second_factor_comes_nowhere_else() -> None:
    async with console() as stage:
        tokens = tokens_for(stage.issuer, "admin") | {"second_factor_enrolment_required": True}
        stage.services.answers[LOGIN] = (200, tokens)
        stage.services.answers[ME] = (
            200,
            {"full_name": "A", "email": "a@example.com", "roles": [], "has_second_factor": False},
        )
        stage.services.answers["GET /api/v1/auth/sessions"] = EMPTY
        assert (await stage.browser.sign_in("admin")).headers["location"] == "/account"
        assert (await stage.browser.get("/users")).headers["location"] == "/account"
        assert "önce ikinci doğrulama adımını açın" in (await stage.browser.get("/account")).text


# --- what pages ask and show


async def test_what_others_wrote_is_shown_as_text_and_never_as_markup() -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        evil = '<script>alert(1)</script>"onload="x'
        user = {
            "id": 7, "email": "a@example.com", "full_name": evil, "roles": ["Sponsor"], "is_active": True,
            "has_password": True, "admin_until": None, "signed_in_at": None,
        }  # fmt: skip
        stage.services.answers["GET /api/v1/auth/users"] = (200, {"items": [user], "next_cursor": 'x"&y'})
        page = (await stage.browser.get("/users", params={"search": evil})).text
        assert "<script>alert" not in page
        assert 'onload="' not in page
        assert html.escape("<script>alert(1)</script>", quote=False) in page
        assert "cursor=x%22%26y" in page


async def test_filters_are_passed_on_and_a_wrong_one_is_said_beside_the_form() -> None:
    async with console() as stage:
        await as_person(stage, "auditor")
        stage.services.answers["GET /api/v1/audit/events"] = EMPTY
        stage.services.answers["GET /api/v1/audit/verification"] = (
            200, {"status": "never", "pending": None, "finished_at": None, "findings": []},
        )  # fmt: skip
        await stage.browser.get("/audit?from=2026-11-27T10:00&actor=6&outcome=denied&service=")
        (asked,) = stage.services.to("GET /api/v1/audit/events")
        assert asked.query == "from=2026-11-27T10%3A00%3A00%2B03%3A00&actor=6&outcome=denied&limit=50"
        stage.services.answers["GET /api/v1/audit/events"] = (
            422,
            refusal("VALIDATION_FAILED", "", errors=[{"field": "actor", "message": "Input should be a valid integer"}]),
        )
        answer = await stage.browser.get("/audit?actor=abc")
        assert (answer.status_code, "actor: Input should be a valid integer" in answer.text) == (200, True)
        assert 'value="abc"' in answer.text


async def test_an_upload_goes_through_as_it_comes_and_one_that_is_too_large_is_refused() -> None:
    async with console() as stage:
        await as_person(stage, "sponsor")
        path = "POST /api/Sponsorship/farmer/invitations/bulk"
        stage.services.answers["GET /api/Sponsorship/codes"] = (200, {"sponsorId": 6, "tiers": []})
        stage.services.answers[path] = (202, {"data": {"jobId": 12}})
        key = {"x-form-key": await stage.browser.form_key("/account"), "hx-request": "true"}
        content = bytes(range(256)) * 4_000
        files = {"excelFile": ("a.xlsx", content)}
        answer = await stage.browser.post("/invitations/upload?sponsor=6&key=once", files=files, headers=key)
        assert answer.headers["hx-redirect"] == "/invitations/jobs/12"
        (asked,) = stage.services.to(path)
        assert content in asked.body
        assert asked.headers["idempotency-key"] == "once"
        assert asked.headers["content-type"].startswith("multipart/form-data; boundary=")
        large = {"excelFile": ("a.xlsx", b"x" * (21 * 1024 * 1024))}
        refused = await stage.browser.post("/invitations/upload/preview?sponsor=6", files=large, headers=key)
        assert (refused.status_code, "Dosya çok büyük: en çok 20 MiB" in refused.text) == (413, True)
        assert "Hiçbir davet gönderilmedi" in refused.text
        assert len(stage.services.to(path)) == 1


async def test_an_export_is_handed_on_piece_by_piece_with_its_name() -> None:
    async with console() as stage:
        await as_person(stage, "auditor")
        stage.services.answers["GET /api/v1/audit/export"] = (200, b"line\n" * 400_000)
        answer = await stage.browser.get("/audit/export?format=csv&action=auth.sign_in")
        assert answer.content == b"line\n" * 400_000
        assert stage.services.to("GET /api/v1/audit/export")[0].query == "action=auth.sign_in&format=csv"


async def test_the_progress_of_a_job_comes_as_events_of_ready_made_markup() -> None:
    async with console() as stage:
        await as_person(stage, "sponsor")
        job = {
            "jobId": 7, "status": "Processing", "percent": 40, "totalRecipients": 10, "processedCount": 4,
            "successCount": 3, "failedCount": 1, "counts": {"sent": 3, "failed": 1, "waiting": 6}, "rowsPerSecond": 2.5,
            "estimatedEnd": None, "completedDate": None,
        }  # fmt: skip
        stream = b": hello\n\nevent: progress\ndata: %b\n\nevent: completed\ndata: %b\n\n" % (
            orjson.dumps(job),
            orjson.dumps(job | {"percent": 100, "status": "Completed", "processedCount": 10}),
        )
        stage.services.answers["GET /api/Sponsorship/farmer/invitations/bulk/7/events"] = (200, stream)
        answer = await stage.browser.get("/invitations/jobs/7/events")
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = answer.text.strip().split("\n\n")
        assert [event.split("\n")[0] for event in events] == [":", "event: progress", "event: completed"]
        assert 'value="40"' in events[1]
        assert "%100" in events[2]
        assert all(line.startswith(("event: ", "data: ")) for event in events[1:] for line in event.split("\n"))


async def test_new_codes_and_grants_are_sent_as_the_interface_takes_them() -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        sent: list[Asked] = []

        def take(asked: Asked) -> tuple[int, Any]:
            sent.append(asked)
            return 200, {"data": {"sponsorId": 6, "count": 2}}

        stage.services.answers["POST /api/Sponsorship/admin/codes"] = take
        stage.services.answers["PUT /api/v1/auth/users/7/on-behalf-of"] = take
        key = await stage.browser.form_key("/users/new")
        given = {"form_key": key, "sponsor_id": "6", "tier": "M", "given": "A-1\r\nA-2", "expires": "2030-01-31"}
        await stage.browser.post("/codes", data=given)
        assert sent[-1].json == {
            "sponsorId": 6, "tier": "M", "codes": ["A-1", "A-2"], "expiresAt": "2030-01-31T23:59:59+03:00",
        }  # fmt: skip
        for kind, ids in (("all", "all"), ("none", []), ("some", [6, 12])):
            await stage.browser.post("/users/7/grants", data={"form_key": key, "kind": kind, "sponsor_ids": "6, 12"})
            assert sent[-1].json == {"sponsor_ids": ids}
        huge = "9" * 5_000
        await stage.browser.post("/users/7/grants", data={"form_key": key, "kind": "some", "sponsor_ids": f"6 {huge}"})
        assert sent[-1].json == {"sponsor_ids": [6, huge]}, "the service says what is wrong with it"


async def test_an_address_can_not_make_a_page_say_what_it_likes_or_fail() -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        stage.services.answers["GET /api/v1/auth/users"] = EMPTY
        for number, said in (("2", "2 kod eklendi."), ("9" * 5_000, "0 kod eklendi."), ("Call 555", "0 kod eklendi.")):
            answer = await stage.browser.get("/users", params={"done": "codes_added", "n": number})
            assert (answer.status_code, said in answer.text) == (200, True)
            assert "Call 555" not in answer.text.partition("<main")[2]


async def test_a_password_is_never_in_a_page_or_a_log_line(capfd: pytest.CaptureFixture[str]) -> None:
    async with console() as stage:
        await as_person(stage, "admin")
        stage.services.answers["POST /api/v1/auth/change-password"] = (403, refusal("CURRENT_PASSWORD_WRONG", ""))
        stage.services.answers[ME] = (
            200, {"full_name": "A", "email": "a@example.com", "roles": ["Admin"], "has_second_factor": True},
        )  # fmt: skip
        stage.services.answers["GET /api/v1/auth/sessions"] = EMPTY
        page = await stage.browser.submit("/account", "/account/password", current=PASSWORD, password=f"{PASSWORD} 2")
        assert "Şimdiki parola yanlış." in page.text
        assert PASSWORD not in page.text
    assert PASSWORD not in capfd.readouterr().out


async def test_a_path_that_is_none_of_the_console_is_the_gateways_to_refuse() -> None:
    async with console() as stage:
        assert (await stage.browser.get("/nothing")).json()["code"] == "UNKNOWN_AREA"
        odd_request = b"GET /users/%2e%2e HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        odd = await send_raw(stage.running.port, odd_request, seconds=60)
        assert odd.startswith(b"HTTP/1.1 400 ")
        assert (await stage.browser.get("/users/12/34/56")).status_code == 404
