"""The HTTP door of referrals in this process: status, body, who may call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from services.referrals import routes
from services.referrals.commands import sign_in, sync
from services.referrals.context import Context, make_context
from services.referrals.settings import ReferralsSettings
from shared import web
from shared.pagination import encode_cursor
from tests.support.asgi import calling
from tests.support.databases import FreshDatabase
from tests.support.microsoft import SandboxMicrosoft
from tests.support.referrals import ADMIN, connect, rows, some_settings
from tests.support.tokens import Issuer


@pytest.fixture
async def client(context: Context, settings: ReferralsSettings, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(an_app(context, settings, issuer)) as opened:
        yield opened


@pytest.fixture
def admin(issuer: Issuer) -> dict[str, str]:
    return issuer.headers(166, "Admin")


def an_app(context: Context, settings: ReferralsSettings, issuer: Issuer) -> Any:
    @asynccontextmanager
    async def open_context() -> AsyncIterator[Context]:
        yield context

    return web.create_app(
        settings,
        title="referrals",
        routers=[routes.router],
        open_context=open_context,
        verifier=issuer.verifier(),
        facts=lambda: {"partner_center_enabled": settings.enabled},
    )


async def synced(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    async with context.database.transaction() as conn:
        task, _ = await sync.request_sync(conn, context.rules, mode="incremental", asked_by=ADMIN)
    await sync.run_sync(context.access, context.partner_center, context.rules, task.task_id)


async def test_a_sync_is_answered_with_the_json_of_the_runbook(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    answer = await client.post("/api/referrals/sync", headers=admin)
    assert answer.status_code == 200
    body = answer.json()
    task_id = body.pop("task_id")
    assert body == {
        "success": True,
        "message": "Referral sync task enqueued. Check logs for results.",
        "enqueued": True,
        "success_count": 0,
        "failure_count": 0,
        "skipped_count": 0,
        "errors": [],
    }
    again = (await client.post("/api/referrals/sync", headers=admin)).json()
    assert (again["enqueued"], again["task_id"]) == (False, task_id)


async def test_pressing_sync_twenty_times_at_once_makes_one_task(
    client: httpx.AsyncClient, context: Context, admin: dict[str, str]
) -> None:
    answers = await asyncio.gather(*(client.post("/api/referrals/sync", headers=admin) for _ in range(20)))
    bodies = [answer.raise_for_status().json() for answer in answers]
    assert len({body["task_id"] for body in bodies}) == 1
    assert sorted(body["enqueued"] for body in bodies) == [False] * 19 + [True]
    assert len(await rows(context, "SELECT 1 FROM referral_syncs")) == 1


async def test_with_the_flag_off_a_sync_is_refused_in_the_runbooks_words(
    sandbox: SandboxMicrosoft, fresh: FreshDatabase, issuer: Issuer, admin: dict[str, str]
) -> None:
    off = some_settings(sandbox, fresh, enabled=False)
    disabled = make_context(off)
    async with calling(an_app(disabled, off, issuer)) as client:
        answer = await client.post("/api/referrals/sync", headers=admin)
        assert (answer.status_code, answer.json()["code"]) == (400, "PARTNER_CENTER_DISABLED")
        expected = "Partner Center integration is disabled. Enable feature flag to use this endpoint."
        assert answer.json()["detail"] == answer.json()["message"] == expected
        assert (await client.get("/healthz")).json()["partner_center_enabled"] is False
        assert (await client.post("/api/referrals/sign-in", headers=admin)).status_code == 201
    await disabled.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/referrals/sync"),
        ("GET", "/api/referrals/sync"),
        ("GET", "/api/referrals/sync/01990000-0000-7000-8000-000000000000"),
        ("POST", "/api/referrals/sign-in"),
        ("GET", "/api/referrals/sign-in/01990000-0000-7000-8000-000000000000"),
        ("GET", "/api/referrals/connection"),
        ("DELETE", "/api/referrals/connection"),
        ("GET", "/api/referrals"),
        ("GET", "/api/referrals/some-id"),
    ],
)
async def test_only_an_admin_may(client: httpx.AsyncClient, issuer: Issuer, method: str, path: str) -> None:
    assert (await client.request(method, path)).status_code == 401
    refused = await client.request(method, path, headers=issuer.headers(6, "Sponsor"))
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")


async def test_health_tells_whether_the_flag_is_on(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json()["partner_center_enabled"] is True


async def test_a_sign_in_through_http_from_the_code_to_the_connection(
    client: httpx.AsyncClient, context: Context, sandbox: SandboxMicrosoft, admin: dict[str, str]
) -> None:
    sandbox.turn(device_code_interval=0)
    before = (await client.get("/api/referrals/connection", headers=admin)).json()
    assert (before["status"], before["account"]) == ("sign_in_required", None)
    assert "sign-in" in before["reason"]
    begun = (await client.post("/api/referrals/sign-in", headers=admin)).json()
    assert set(begun) == {"sign_in_id", "verification_uri", "user_code", "expires_at", "interval"}
    path = f"/api/referrals/sign-in/{begun['sign_in_id']}"
    pending = (await client.get(path, headers=admin)).json()
    assert (pending["status"], pending["user_code"]) == ("pending", begun["user_code"])
    sandbox.decide(begun["user_code"])
    await sign_in.poll_due_sign_ins(context.access)
    done = (await client.get(path, headers=admin)).json()
    assert (done["status"], done["account"], done["user_code"]) == ("succeeded", "ops@contoso.example", None)
    after = (await client.get("/api/referrals/connection", headers=admin)).json()
    assert (after["status"], after["account"], after["reason"]) == ("healthy", "ops@contoso.example", None)
    gone = await client.delete("/api/referrals/connection", headers=admin)
    assert gone.json() == {"success": True, "existed": True}
    assert (await client.get("/api/referrals/connection", headers=admin)).json()["status"] == "sign_in_required"


async def test_the_code_is_shown_only_to_the_admin_who_asked(
    client: httpx.AsyncClient, issuer: Issuer, admin: dict[str, str]
) -> None:
    begun = (await client.post("/api/referrals/sign-in", headers=admin)).json()
    other = await client.get(f"/api/referrals/sign-in/{begun['sign_in_id']}", headers=issuer.headers(167, "Admin"))
    assert other.json()["user_code"] is None
    assert begun["user_code"] not in other.text


@pytest.mark.parametrize(
    ("decision", "status", "words"),
    [("decline", "declined", "declined the sign-in")],
)
async def test_a_sign_in_that_did_not_succeed_says_why(
    client: httpx.AsyncClient,
    context: Context,
    sandbox: SandboxMicrosoft,
    admin: dict[str, str],
    decision: str,
    status: str,
    words: str,
) -> None:
    sandbox.turn(device_code_interval=0)
    begun = (await client.post("/api/referrals/sign-in", headers=admin)).json()
    sandbox.decide(begun["user_code"], decision)
    await sign_in.poll_due_sign_ins(context.access)
    body = (await client.get(f"/api/referrals/sign-in/{begun['sign_in_id']}", headers=admin)).json()
    assert body["status"] == status
    assert words in body["error"]


async def test_microsofts_refusal_of_a_code_is_a_400_with_the_cure(
    client: httpx.AsyncClient, sandbox: SandboxMicrosoft, admin: dict[str, str]
) -> None:
    sandbox.turn(identity_faults=[{"endpoint": "devicecode", "error": "invalid_client", "codes": [7000218]}])
    answer = await client.post("/api/referrals/sign-in", headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (400, "SIGN_IN_REFUSED")
    assert "Allow public client flows" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "words"),
    [
        (
            {"enabled": False, "client_id": None},
            400,
            "PARTNER_CENTER_NOT_CONFIGURED",
            "HUNTER_PARTNER_CENTER_CLIENT_ID",
        ),
        (
            {"enabled": False, "tenant_id": None},
            400,
            "PARTNER_CENTER_NOT_CONFIGURED",
            "HUNTER_PARTNER_CENTER_TENANT_ID",
        ),
        ({"authority": "https://localhost:1"}, 503, "MICROSOFT_UNAVAILABLE", "did not answer"),
        ({"ca_file": None}, 503, "MICROSOFT_UNAVAILABLE", "HUNTER_PARTNER_CENTER_CA_FILE"),
    ],
)
async def test_a_setting_that_keeps_a_sign_in_from_beginning_is_named(
    sandbox: SandboxMicrosoft,
    fresh: FreshDatabase,
    issuer: Issuer,
    admin: dict[str, str],
    changes: dict[str, Any],
    status: int,
    code: str,
    words: str,
) -> None:
    settings = some_settings(sandbox, fresh, **changes)
    context = make_context(settings)
    async with calling(an_app(context, settings, issuer)) as client:
        answer = await client.post("/api/referrals/sign-in", headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert words in answer.json()["detail"]
    assert ("retry-after" in answer.headers) == (status == 503)
    await context.close()


async def test_a_sync_and_the_history_of_syncs_can_be_watched(
    client: httpx.AsyncClient, context: Context, sandbox: SandboxMicrosoft, admin: dict[str, str]
) -> None:
    await synced(context, sandbox)
    await client.post("/api/referrals/sync", headers=admin)
    first = (await client.get("/api/referrals/sync?limit=1", headers=admin)).json()
    assert [item["status"] for item in first["items"]] == ["queued"]
    second = (await client.get("/api/referrals/sync", params={"cursor": first["next_cursor"]}, headers=admin)).json()
    done = second["items"][0]
    assert second["next_cursor"] is None
    assert (done["status"], done["pages"], done["fetched"], done["created"]) == ("succeeded", 3, 250, 250)
    assert (await client.get(f"/api/referrals/sync/{done['task_id']}", headers=admin)).json() == done


@pytest.mark.parametrize("sort", ["updated_at", "company_name", "-company_name", "status", "deal_value", "-deal_value"])
async def test_referrals_are_sorted_and_pages_of_one_order_fit_together(
    client: httpx.AsyncClient, context: Context, sandbox: SandboxMicrosoft, admin: dict[str, str], sort: str
) -> None:
    await synced(context, sandbox)
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while not items or cursor:
        params: dict[str, Any] = {"limit": 90, "sort": sort} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/referrals", params=params, headers=admin)).json()
        items += page["items"]
        cursor = page["next_cursor"]
    assert len({item["referral_id"] for item in items}) == len(items) == 250
    field = sort.lstrip("-")
    shown = [float(item[field] or 0) if field == "deal_value" else item[field] or "" for item in items]
    if field in {"deal_value", "updated_at"}:
        assert shown == sorted(shown, reverse=sort.startswith("-"))
    async with context.database.connection() as conn:
        key = f"lower(coalesce({field}, ''))" if field in {"company_name", "status"} else f"coalesce({field}, {field})"
        direction = "DESC" if sort.startswith("-") else "ASC"
        ids = await conn.fetch(
            f"SELECT referral_id FROM partner_center_referrals ORDER BY {key} {direction}, referral_id {direction}"  # noqa: S608
        )
    if field != "deal_value":
        assert [item["referral_id"] for item in items] == [row["referral_id"] for row in ids]
    foreign = await client.get(
        "/api/referrals", params={"sort": "deal_value", "cursor": "WyJhYmMiLCJiIl0"}, headers=admin
    )
    assert (foreign.status_code, foreign.json()["code"]) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize("sort", ["company_name", "-company_name"])
async def test_the_next_page_can_be_asked_for_also_behind_the_longest_name(
    client: httpx.AsyncClient, context: Context, sandbox: SandboxMicrosoft, admin: dict[str, str], sort: str
) -> None:
    names = ["株" * 7_999 + end for end in ("a", "b")] + ["\x01" * 8_000, "ş" * 255]
    for index, name in enumerate(names):
        sandbox.change(change={sandbox.referral_id(index): {"customerProfile": {"name": name}}})
    await synced(context, sandbox)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params: dict[str, Any] = {"limit": 1, "sort": sort, "text": sandbox.referral_id(0)[:-1]}
        page = await client.get("/api/referrals", params=params | ({"cursor": cursor} if cursor else {}), headers=admin)
        assert page.status_code == 200, page.text
        seen += [item["referral_id"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]
    assert len(seen) == len(set(seen)) >= len(names)


@pytest.mark.parametrize("value", ["1e999999999", "-1e-999999999", "1e131072", "0e999999999999"])
async def test_a_cursor_of_a_number_that_no_deal_has_is_refused(
    client: httpx.AsyncClient, admin: dict[str, str], value: str
) -> None:
    params = {"sort": "deal_value", "cursor": encode_cursor(value, "x")}
    refused = await client.get("/api/referrals", params=params, headers=admin)
    assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize("path", ["/api/referrals", "/api/referrals/sync"])
async def test_a_cursor_of_a_time_outside_our_calendar_is_refused(
    client: httpx.AsyncClient, admin: dict[str, str], path: str
) -> None:
    for last_id in ("x", "019ab000-0000-7000-8000-000000000001"):
        params = {"cursor": encode_cursor("0001-01-01T00:00:00+14:00", last_id)}
        refused = await client.get(path, params=params, headers=admin)
        assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_FAILED")


async def test_referrals_are_paged_filtered_and_found_by_text(
    client: httpx.AsyncClient, context: Context, sandbox: SandboxMicrosoft, admin: dict[str, str]
) -> None:
    await synced(context, sandbox)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (
            await client.get(
                "/api/referrals", params={"limit": 120, "cursor": cursor} if cursor else {"limit": 120}, headers=admin
            )
        ).json()
        seen += [item["referral_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [sandbox.referral_id(index) for index in range(249, -1, -1)]

    async def found(**filters: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (
            await client.get("/api/referrals", params={"limit": 200, **filters}, headers=admin)
        ).json()["items"]
        return items

    assert {item["status"] for item in await found(status="closed")} == {"Closed"}
    assert {item["substatus"] for item in await found(substatus="Won")} == {"Won"}
    assert {item["referral_type"] for item in await found(type="Shared")} == {"Shared"}
    assert {item["country"] for item in await found(country="tr")} == {"TR"}
    assert [item["referral_id"] for item in await found(text="customer-000042")] == [sandbox.referral_id(42)]
    assert await found(text="100%") == []
    since = (await found())[9]["updated_at"]
    assert len(await found(updated_since=since)) == 10


async def test_one_referral_comes_whole_with_its_history(
    client: httpx.AsyncClient, context: Context, sandbox: SandboxMicrosoft, admin: dict[str, str]
) -> None:
    await synced(context, sandbox)
    sandbox.change(change={sandbox.referral_id(0): {"status": "Closed", "substatus": "Won"}})
    await synced(context, sandbox)
    body = (await client.get(f"/api/referrals/{sandbox.referral_id(0)}", headers=admin)).json()
    assert body["raw"]["id"] == body["referral_id"]
    assert [(entry["status"], entry["substatus"]) for entry in body["history"]] == [
        ("New", "Pending"),
        ("Closed", "Won"),
    ]
    missing = await client.get("/api/referrals/no-such-id", headers=admin)
    assert (missing.status_code, missing.json()["code"]) == (404, "REFERRAL_NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/referrals?limit=0", "limit"),
        ("/api/referrals?limit=x", "limit"),
        ("/api/referrals?cursor=nonsense", "cursor"),
        ("/api/referrals?cursor=WyJhIiwiYiJd", "cursor"),
        ("/api/referrals?updated_since=yesterday", "updated_since"),
        ("/api/referrals/sync?cursor=WzEsMl0", "cursor"),
        ("/api/referrals/sync/not-a-uuid", "task_id"),
        ("/api/referrals/sign-in/not-a-uuid", "sign_in_id"),
    ],
)
async def test_bad_input_names_the_field(
    client: httpx.AsyncClient, admin: dict[str, str], path: str, field: str
) -> None:
    answer = await client.get(path, headers=admin)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_a_nul_in_a_text_search_is_a_clear_error(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    assert (await client.get("/api/referrals?text=%00", headers=admin)).status_code == 422
    assert (await client.get("/api/referrals/%00", headers=admin)).status_code == 422


async def test_what_does_not_exist_is_a_404(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    nobody = "01990000-0000-7000-8000-000000000000"
    assert (await client.get(f"/api/referrals/sync/{nobody}", headers=admin)).json()["code"] == "SYNC_NOT_FOUND"
    assert (await client.get(f"/api/referrals/sign-in/{nobody}", headers=admin)).json()["code"] == "SIGN_IN_NOT_FOUND"
