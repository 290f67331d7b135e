"""Commands on a real PostgreSQL against the sandbox: rows, outbox and audit events after each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.referrals.commands import connection, sign_in, sync
from services.referrals.commands.connection import get_credential
from services.referrals.context import Context, make_context
from services.referrals.domain.failures import (
    PartnerCenterDisabled,
    PartnerCenterUnavailable,
    SignInRefused,
    SignInRequired,
    TokenCacheInvalid,
    TokenCacheKeyMismatch,
)
from services.referrals.domain.syncs import Mode, Sync
from services.referrals.partner_center import Page
from services.referrals.store import connections as connection_store
from services.referrals.store import syncs as sync_store
from tests.support.databases import FreshDatabase
from tests.support.microsoft import SandboxMicrosoft
from tests.support.referrals import ADMIN, another_key, audited, connect, events_of, some_settings

Row = dict[str, Any]


async def rows(context: Context, query: str, *values: Any) -> list[Row]:
    async with context.database.connection() as conn:
        return [dict(row) for row in await conn.fetch(query, *values)]


async def count(context: Context) -> int:
    return int((await rows(context, "SELECT count(*) FROM partner_center_referrals"))[0]["count"])


async def ask(context: Context, mode: Mode = "incremental") -> UUID:
    async with context.database.transaction() as conn:
        task, _ = await sync.request_sync(conn, context.rules, mode=mode, asked_by=ADMIN)
    return task.task_id


async def run(context: Context, task_id: UUID | None = None, mode: Mode = "incremental") -> Sync:
    task_id = task_id or await ask(context, mode)
    await sync.run_sync(context.access, context.partner_center, context.rules, task_id)
    async with context.database.connection() as conn:
        return await sync_store.get_sync(conn, task_id)


# Sign-in and connection


async def test_a_sign_in_is_stored_sealed_and_audited_without_its_secrets(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    await connect(context, sandbox)
    stored = (await rows(context, "SELECT * FROM partner_center_connections"))[0]
    assert (stored["username"], stored["version"]) == ("ops@contoso.example", 1)
    assert not any(secret in bytes(stored["sealed_cache"]) for secret in (b"at-", b"rt-", b"secret"))
    assert await audited(context) == [
        ("partner_center.sign_in.begun", "success"),
        ("partner_center.sign_in.succeeded", "success"),
    ]
    finished = (await events_of(context, "referrals.audit.recorded.v1"))[1]
    assert finished["actor"]["id"] == 166
    assert finished["personal"]["email"] == "ops@contoso.example"
    assert (await rows(context, "SELECT state, account, sealed_flow FROM sign_ins")) == [
        {"state": "succeeded", "account": "ops@contoso.example", "sealed_flow": None}
    ]


async def test_a_sign_in_that_one_process_began_is_finished_by_another(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    begun = await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    await context.close()
    sandbox.decide(begun.code.user_code)
    other = make_context(some_settings(sandbox, fresh))
    await asyncio.sleep(1.05)  # the interval before which nobody may ask
    await sign_in.poll_due_sign_ins(other.access)
    assert (await rows(other, "SELECT state FROM sign_ins"))[0]["state"] == "succeeded"
    await other.close()


async def test_several_processes_poll_a_sign_in_once_per_interval(context: Context, sandbox: SandboxMicrosoft) -> None:
    await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    await asyncio.sleep(1.05)
    await asyncio.gather(*(sign_in.poll_due_sign_ins(context.access) for _ in range(5)))
    assert sandbox.state()["token_calls"] == {"device_code:authorization_pending": 1}


async def test_the_account_of_another_tenant_is_refused_and_nothing_is_stored(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(account={"username": "guest@other.example", "tenant_id": "11111111-2222-4333-8444-555555555555"})
    await connect(context, sandbox)
    assert await rows(context, "SELECT * FROM partner_center_connections") == []
    refused = (await rows(context, "SELECT state, error_code, error FROM sign_ins"))[0]
    assert (refused["state"], refused["error_code"]) == ("failed", "wrong_tenant")
    assert "HUNTER_PARTNER_CENTER_TENANT_ID" in refused["error"]
    assert (await audited(context))[-1] == ("partner_center.sign_in.failed", "denied")


async def test_a_code_that_nobody_used_expires(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(device_code_expires_in=1)
    await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    await asyncio.sleep(1.1)
    await sign_in.poll_due_sign_ins(context.access)
    assert (await rows(context, "SELECT state FROM sign_ins"))[0]["state"] == "expired"
    assert sandbox.state()["token_calls"] == {}


async def test_slow_down_is_remembered_for_the_next_process(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(slow_down_polls=1)
    await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    await asyncio.sleep(1.05)
    await sign_in.poll_due_sign_ins(context.access)
    assert (await rows(context, "SELECT interval_seconds FROM sign_ins"))[0]["interval_seconds"] == 6


async def test_a_refused_request_for_a_code_leaves_no_sign_in(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(identity_faults=[{"endpoint": "devicecode", "error": "unauthorized_client", "codes": [700016]}])
    with pytest.raises(SignInRefused):
        await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    assert await rows(context, "SELECT * FROM sign_ins") == []


async def test_32_needs_of_4_replicas_at_once_cost_one_renewal(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.turn(access_token_expires_in=3600, one_time_refresh_tokens=True)
    replicas = [make_context(some_settings(sandbox, fresh)) for _ in range(4)]
    credentials = await asyncio.gather(*(get_credential(replica.access) for replica in replicas for _ in range(32)))
    for replica in replicas:
        await replica.close()
    assert len({credential.token.access_token for credential in credentials}) == 1
    assert sandbox.state()["token_calls"]["refresh_token:issued"] == 1
    assert (await rows(context, "SELECT version FROM partner_center_connections"))[0]["version"] == 2


async def test_a_reset_that_races_a_renewal_stays_a_reset(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.turn(token_delay_seconds=0.5)
    renewing = asyncio.create_task(get_credential(context.access))
    await asyncio.sleep(0.25)
    async with context.database.transaction() as conn:
        assert await connection.reset_connection(conn, asked_by=ADMIN)
    await renewing
    assert await rows(context, "SELECT * FROM partner_center_connections") == []
    with pytest.raises(SignInRequired):
        await get_credential(context.access)


async def test_a_renewal_never_overwrites_a_sign_in_that_finished_meanwhile(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.turn(token_delay_seconds=0.4)
    renewing = asyncio.create_task(get_credential(context.access))
    await asyncio.sleep(0.2)
    bob = {"username": "bob@contoso.example", "object_id": "0b0b0b0b-0000-4000-8000-000000000001"}
    sandbox.turn(token_delay_seconds=0, account=bob)
    await connect(context, sandbox)
    await renewing
    assert (await rows(context, "SELECT username FROM partner_center_connections"))[0]["username"] == bob["username"]
    async with context.database.connection() as conn:
        stored = await connection_store.find_connection(conn)
    assert stored
    assert (
        context.access.microsoft.account_of(connection.open_cache(context.access, stored)).username == bob["username"]
    )


async def test_with_the_wrong_key_everything_says_so_and_nothing_is_overwritten(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    await connect(context, sandbox)
    await rows(context, "UPDATE partner_center_connections SET refreshed_at = now() - interval '8 days' RETURNING 1")
    before = await rows(context, "SELECT * FROM partner_center_connections")
    other = make_context(some_settings(sandbox, fresh, token_cache_keys=another_key()))
    attempts: list[Callable[[], Awaitable[Any]]] = [
        lambda: get_credential(other.access),
        lambda: sign_in.begin_sign_in(other.access, asked_by=ADMIN),
        lambda: connection.rotate_key(other.access, asked_by=ADMIN),
        lambda: connection.keep_connection_alive(other.access),
    ]
    for attempt in attempts:
        with pytest.raises(TokenCacheKeyMismatch, match="HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS"):
            await attempt()
    assert (await run(other)).error_code == "TOKEN_CACHE_KEY_MISMATCH"
    assert await rows(context, "SELECT * FROM partner_center_connections") == before
    await other.close()


async def test_a_key_is_replaced_without_a_new_sign_in(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    await connect(context, sandbox)
    old = context.access
    key = another_key()
    both = f"{key},{some_settings(sandbox, fresh).token_cache_keys.get_secret_value()}"
    rotating = make_context(some_settings(sandbox, fresh, token_cache_keys=both))
    assert await connection.rotate_key(rotating.access, asked_by=ADMIN)
    assert not await connection.rotate_key(rotating.access, asked_by=ADMIN)
    new = make_context(some_settings(sandbox, fresh, token_cache_keys=key))
    assert (await get_credential(new.access)).account.username == "ops@contoso.example"
    with pytest.raises(TokenCacheKeyMismatch):
        await get_credential(old)
    await rotating.close()
    await new.close()


async def test_the_plain_cache_of_the_older_tool_is_taken_over_after_proof_that_it_works(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    await connect(context, sandbox)
    async with context.database.connection() as conn:
        stored = await connection_store.find_connection(conn)
    assert stored
    plain = connection.open_cache(context.access, stored)
    async with context.database.transaction() as conn:
        await connection.reset_connection(conn, asked_by=ADMIN)
    assert (await connection.import_cache(context.access, plain, asked_by=ADMIN)).username == "ops@contoso.example"
    assert (await get_credential(context.access)).token.access_token.startswith("at-")
    with pytest.raises(SignInRequired):
        await connection.import_cache(context.access, plain, asked_by=ADMIN)  # its one-time token is spent
    with pytest.raises(TokenCacheInvalid):
        await connection.import_cache(context.access, "{}", asked_by=ADMIN)


async def test_a_revoked_sign_in_is_told_once_and_asked_no_more(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.revoke()
    for _ in range(3):
        with pytest.raises(SignInRequired):
            await get_credential(context.access)
    assert sandbox.state()["token_calls"]["refresh_token:invalid_grant"] == 1
    assert len(await events_of(context, "referrals.sign_in.required.v1")) == 1
    await connect(context, sandbox)
    assert (await get_credential(context.access)).account.username == "ops@contoso.example"


async def test_an_idle_sign_in_is_renewed_once_a_week(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await connection.keep_connection_alive(context.access)
    assert "refresh_token:issued" not in sandbox.state()["token_calls"]
    await rows(context, "UPDATE partner_center_connections SET refreshed_at = now() - interval '8 days' RETURNING 1")
    await connection.keep_connection_alive(context.access)
    assert sandbox.state()["token_calls"]["refresh_token:issued"] == 1


async def test_a_sign_in_about_to_expire_is_told_once(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await rows(context, "UPDATE partner_center_connections SET refreshed_at = now() - interval '75 days' RETURNING 1")
    sandbox.turn(
        identity_faults=[{"endpoint": "token", "status": 503, "error": "temporarily_unavailable", "times": 99}]
    )
    for _ in range(2):
        await connection.keep_connection_alive(context.access)
    told = await events_of(context, "referrals.sign_in.required.v1")
    assert len(told) == 1
    assert "expires about" in told[0]["reason"]


# Sync


async def test_the_first_sync_brings_every_referral_and_logs_what_operators_grep_for(
    context: Context, sandbox: SandboxMicrosoft, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await connect(context, sandbox)
    done = await run(context)
    assert (done.state, done.pages) == ("succeeded", 3)
    assert (done.counts.fetched, done.counts.created, done.counts.updated) == (250, 250, 0)
    assert await count(context) == 250
    lines = [record.getMessage() for record in caplog.records]
    assert "partner_center_referrals_fetched count=250" in lines
    summary = "partner_center_sync_summary total_referrals=250 success_count=250 failure_count=0 skipped_count=0"
    assert summary in lines
    assert any(line.startswith(f"partner_center_sync_task_started task_id={done.task_id}") for line in lines)
    assert any(line.startswith("partner_center_sync_started") for line in lines)
    assert any(line.startswith("partner_center_sync_task_completed") for line in lines)
    assert len(await events_of(context, "referrals.referral.received.v1")) == 250
    assert (await events_of(context, "referrals.sync.completed.v1"))[0]["created"] == 250
    assert ("partner_center.sync.completed", "success") in await audited(context)


async def test_a_second_sync_changes_nothing(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await run(context)
    everything = "SELECT xmin, * FROM partner_center_referrals ORDER BY referral_id"
    before = (
        await rows(context, everything),
        await rows(context, "SELECT * FROM referral_statuses ORDER BY referral_id, changed_at"),
    )
    for mode in ("incremental", "full"):
        done = await run(context, mode=mode)
        assert (done.counts.created, done.counts.updated, done.counts.rejected) == (0, 0, 0)
    assert (
        await rows(context, everything),
        await rows(context, "SELECT * FROM referral_statuses ORDER BY referral_id, changed_at"),
    ) == before
    assert len(await events_of(context, "referrals.referral.received.v1")) == 250


async def test_a_later_sync_asks_only_for_what_changed(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await run(context)
    changed = sandbox.referral_id(3)
    sandbox.change(change={changed: {"status": "Closed", "substatus": "Expired"}}, add=[{"name": "new"}])
    done = await run(context)
    assert done.listing == "filtered"
    assert (done.counts.created, done.counts.updated) == (1, 1)
    assert done.counts.fetched < 20
    event = (await events_of(context, "referrals.referral.changed.v1"))[0]
    assert event["referral_id"] == changed
    assert event["changes"] == {"status": ["New", "Closed"], "substatus": ["Received", "Expired"]}
    history = await rows(
        context, "SELECT status FROM referral_statuses WHERE referral_id = $1 ORDER BY changed_at", changed
    )
    assert [row["status"] for row in history] == ["New", "Closed"]


async def test_the_overlap_finds_what_came_in_late_with_an_older_time(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    await connect(context, sandbox)
    await run(context)
    newest = (await rows(context, "SELECT max(updated_at) AS at FROM partner_center_referrals"))[0]["at"]
    late = (newest - timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%SZ")
    sandbox.change(change={sandbox.referral_id(0): {"name": "came late", "updatedDateTime": late}})
    assert (await run(context)).counts.updated == 1


async def test_an_older_state_never_overwrites_a_newer_one(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await run(context)
    referral = sandbox.referral_id(5)
    sandbox.change(change={referral: {"name": "stale page", "updatedDateTime": "2020-01-01T00:00:00Z"}})
    done = await run(context, mode="full")
    assert (done.counts.updated, done.counts.unchanged) == (0, 250)
    name = await rows(context, "SELECT name FROM partner_center_referrals WHERE referral_id = $1", referral)
    assert name[0]["name"] != "stale page"


async def test_malformed_items_are_set_aside_with_the_reason_and_stop_nothing(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(malformed_every=10)
    await connect(context, sandbox)
    done = await run(context)
    assert (done.state, done.counts.rejected, done.counts.created) == ("succeeded", 25, 225)
    rejected = await rows(context, "SELECT page, position, reason, raw FROM referrals_rejected ORDER BY id")
    assert len(rejected) == 25
    assert rejected[0] == {
        "page": 1,
        "position": 0,
        "reason": "expected an object, found NoneType",
        "raw": "null",
    }
    assert len({row["reason"] for row in rejected}) == 5


async def test_unknown_fields_and_values_are_stored_whole(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(unknown_every=50)
    await connect(context, sandbox)
    await run(context)
    found = await rows(
        context, "SELECT status, raw -> 'futureField' AS future FROM partner_center_referrals WHERE status = 'Paused'"
    )
    assert found == [{"status": "Paused", "future": {"a": [1]}}] * 5


@pytest.mark.parametrize(
    ("knobs", "listing"),
    [
        ({"date_filter": "refused"}, "descending"),
        ({"date_filter": "quoted"}, "descending"),
        ({"date_filter": "refused", "order_by": "created_only"}, "everything"),
    ],
)
async def test_a_refused_filter_falls_back_and_still_finds_every_change(
    context: Context, sandbox: SandboxMicrosoft, knobs: dict[str, str], listing: str
) -> None:
    await connect(context, sandbox)
    await run(context)
    sandbox.turn(**knobs)
    sandbox.change(change={sandbox.referral_id(1): {"name": "changed"}})
    done = await run(context)
    assert (done.state, done.listing, done.counts.updated) == ("succeeded", listing, 1)
    assert done.pages == (3 if listing == "everything" else 2)


async def test_dates_can_be_quoted_by_setting(sandbox: SandboxMicrosoft, fresh: FreshDatabase) -> None:
    context = make_context(some_settings(sandbox, fresh, quoted_dates=True))
    await connect(context, sandbox)
    await run(context)
    sandbox.turn(date_filter="quoted")
    assert (await run(context)).listing == "filtered"
    await context.close()


async def test_rows_that_change_while_they_are_paged_are_there_once_and_current(
    context: Context, sandbox: SandboxMicrosoft, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(context, sandbox)
    real = type(context.partner_center).get_page
    moved = [sandbox.referral_id(index) for index in (5, 120, 249)]

    async def with_changes(self: Any, target: str, token: str) -> Page:
        page = await real(self, target, token)
        if sandbox.state()["pages"][-1] == 1:
            sandbox.change(change={referral: {"name": "moved"} for referral in moved}, add=[{"name": "late"}])
        return page

    monkeypatch.setattr(type(context.partner_center), "get_page", with_changes)
    await run(context)
    monkeypatch.undo()
    await run(context)
    named = await rows(context, "SELECT referral_id FROM partner_center_referrals WHERE name = 'moved' ORDER BY 1")
    assert [row["referral_id"] for row in named] == sorted(moved)
    assert await count(context) == 251


async def test_what_a_sweep_no_longer_sees_is_marked_and_unmarked_but_never_deleted(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    await connect(context, sandbox)
    await run(context)
    gone = sandbox.referral_id(9)
    sandbox.change(remove=[gone])
    await run(context)  # incremental: absence means nothing
    assert await rows(context, "SELECT 1 FROM partner_center_referrals WHERE missing_since IS NOT NULL") == []
    await run(context, mode="full")
    missing = await rows(context, "SELECT referral_id FROM partner_center_referrals WHERE missing_since IS NOT NULL")
    assert missing == [{"referral_id": gone}]
    assert await count(context) == 250
    sandbox.change(add=[{"id": gone}])
    await run(context, mode="full")
    assert await rows(context, "SELECT 1 FROM partner_center_referrals WHERE missing_since IS NOT NULL") == []
    assert await rows(context, "SELECT 1 FROM referral_sightings") == []


async def test_a_sync_that_waits_goes_on_from_its_page(sandbox: SandboxMicrosoft, fresh: FreshDatabase) -> None:
    context = make_context(some_settings(sandbox, fresh, request_attempts=1))
    await connect(context, sandbox)
    sandbox.turn(api_faults=[{"kind": "server_error", "page": 3, "times": 2}])
    task_id = await ask(context)
    for _ in range(2):
        with pytest.raises(PartnerCenterUnavailable):
            await run(context, task_id)
    done = await run(context, task_id)
    assert (done.state, done.counts.fetched) == ("succeeded", 250)
    assert sandbox.state()["pages"] == [1, 2, 3]
    await context.close()


async def test_a_sync_that_never_gets_on_fails_and_says_why(sandbox: SandboxMicrosoft, fresh: FreshDatabase) -> None:
    context = make_context(some_settings(sandbox, fresh, request_attempts=1))
    await connect(context, sandbox)
    sandbox.turn(api_faults=[{"kind": "server_error", "times": 99}])
    task_id = await ask(context)
    for _ in range(3):
        with pytest.raises(PartnerCenterUnavailable):
            await run(context, task_id)
    done = await run(context, task_id)
    assert (done.state, done.error_code) == ("failed", "PARTNER_CENTER_UNAVAILABLE")
    assert (await events_of(context, "referrals.sync.failed.v1"))[0]["task_id"] == str(task_id)
    await run(context, task_id)  # a late repetition does nothing
    assert len(await events_of(context, "referrals.sync.failed.v1")) == 1
    await context.close()


async def test_a_long_retry_after_is_noted_and_honoured(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    sandbox.turn(api_faults=[{"kind": "throttled", "retry_after": "120"}])
    task_id = await ask(context)
    with pytest.raises(Exception, match="asks to wait"):
        await run(context, task_id)
    waits = (await rows(context, "SELECT wait_until - now() AS left FROM referral_syncs"))[0]["left"]
    assert timedelta(seconds=110) < waits <= timedelta(seconds=120)
    await rows(context, "UPDATE referral_syncs SET wait_until = now() + interval '1 second' RETURNING 1")
    before = asyncio.get_running_loop().time()
    assert (await run(context, task_id)).state == "succeeded"
    assert asyncio.get_running_loop().time() - before >= 0.9


async def test_an_expired_token_is_renewed_once_in_the_middle(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    sandbox.turn(api_faults=[{"kind": "unauthenticated", "page": 2}])
    assert (await run(context)).state == "succeeded"
    assert sandbox.state()["token_calls"]["refresh_token:issued"] == 1


@pytest.mark.parametrize(
    ("fault", "renewals"),
    [
        ({"kind": "mfa_required"}, 0),
        ({"kind": "claims_challenge"}, 0),
        ({"kind": "unauthenticated", "times": 99}, 1),
    ],
)
async def test_when_only_a_person_can_help_the_sync_says_so_and_everybody_is_told(
    context: Context, sandbox: SandboxMicrosoft, fault: dict[str, Any], renewals: int
) -> None:
    await connect(context, sandbox)
    sandbox.turn(api_faults=[fault])
    done = await run(context)
    assert done.state == "sign_in_required"
    assert sandbox.state()["token_calls"].get("refresh_token:issued", 0) == renewals
    assert len(await events_of(context, "referrals.sign_in.required.v1")) == 1
    sandbox.turn(api_faults=[])
    await connect(context, sandbox)
    assert (await run(context)).state == "succeeded"


async def test_without_a_sign_in_a_sync_says_so(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert (await run(context)).state == "sign_in_required"
    assert any(
        "partner_center_sync_skipped reason=sign_in_required" in record.getMessage() for record in caplog.records
    )


@pytest.mark.parametrize(
    ("fault", "code"),
    [({"kind": "forbidden"}, "PARTNER_CENTER_ACCESS_DENIED")],
)
async def test_what_no_attempt_cures_fails_at_once(
    context: Context, sandbox: SandboxMicrosoft, fault: dict[str, Any], code: str
) -> None:
    await connect(context, sandbox)
    sandbox.turn(api_faults=[fault])
    assert (await run(context)).error_code == code


async def test_a_foreign_next_link_fails_the_sync_after_the_page_before_is_stored(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    await connect(context, sandbox)
    sandbox.turn(next_link="foreign_host", foreign_host="referrals.attacker.example")
    done = await run(context)
    assert (done.state, done.error_code) == ("failed", "PARTNER_CENTER_NEXT_LINK_REFUSED")
    assert "referrals.attacker.example" in (done.error or "")


async def test_another_account_starts_with_everything(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await run(context)
    sandbox.turn(account={"username": "bob@contoso.example", "object_id": "0b0b0b0b-0000-4000-8000-000000000001"})
    await connect(context, sandbox)
    assert (await run(context)).listing == "everything"


async def test_asking_twenty_times_at_once_makes_one_task(context: Context) -> None:
    tasks = await asyncio.gather(*(ask(context) for _ in range(20)))
    assert len(set(tasks)) == 1
    assert len(await events_of(context, "referrals.sync.requested.v1")) == 1


async def test_with_the_flag_off_nothing_is_queued(sandbox: SandboxMicrosoft, fresh: FreshDatabase) -> None:
    context = make_context(some_settings(sandbox, fresh, enabled=False))
    with pytest.raises(PartnerCenterDisabled, match="Enable feature flag"):
        await ask(context)
    await connect(context, sandbox)  # signing in still works
    await context.close()


async def test_two_workers_on_one_task_store_each_page_once(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    await connect(context, sandbox)
    task_id = await ask(context)
    other = make_context(some_settings(sandbox, fresh))
    sandbox.turn(page_delay_seconds=0.1)
    await asyncio.gather(run(context, task_id), run(other, task_id), return_exceptions=True)
    done = (await rows(context, "SELECT state, pages, fetched, created FROM referral_syncs"))[0]
    assert done == {"state": "succeeded", "pages": 3, "fetched": 250, "created": 250}
    assert len(await events_of(context, "referrals.referral.received.v1")) == 250
    await other.close()


async def test_the_schedule_asks_when_the_interval_is_over(context: Context, sandbox: SandboxMicrosoft) -> None:
    await sync.request_due_sync(context.database, context.rules)
    await connect(context, sandbox)
    await sync.request_due_sync(context.database, context.rules)
    assert await rows(context, "SELECT 1 FROM referral_syncs") == []
    await rows(
        context, "UPDATE partner_center_connections SET connected_at = now() - interval '11 minutes' RETURNING 1"
    )
    for _ in range(2):
        await sync.request_due_sync(context.database, context.rules)
    assert [row["asked_by"]["kind"] for row in await rows(context, "SELECT asked_by FROM referral_syncs")] == [
        "service"
    ]


async def test_a_task_whose_message_was_lost_is_revived(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    task_id = await ask(context)
    await rows(context, "UPDATE referral_syncs SET moved_at = now() - interval '16 minutes' RETURNING 1")
    for _ in range(2):
        await sync.request_due_sync(context.database, context.rules)
    requests = await events_of(context, "referrals.sync.requested.v1")
    assert [request["task_id"] for request in requests] == [str(task_id)] * 2
