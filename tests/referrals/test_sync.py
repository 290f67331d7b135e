"""What a sync stores, on a real PostgreSQL against the sandbox."""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from sandbox.microsoft.referrals import generate
from services.referrals.context import Context, make_context
from services.referrals.domain.referrals import parse_referral
from services.referrals.partner_center import Page, PartnerCenter
from services.referrals.store import referrals as store
from tests.support.databases import FreshDatabase
from tests.support.microsoft import SandboxMicrosoft
from tests.support.proxy import tunnelling_proxy
from tests.support.referrals import (
    audited,
    connect,
    count,
    events_of,
    rows,
    run,
    some_settings,
)


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
    assert event["fields"] == ["status", "substatus", "updatedDateTime"]
    history = await rows(
        context, "SELECT status FROM referral_statuses WHERE referral_id = $1 ORDER BY changed_at", changed
    )
    assert [row["status"] for row in history] == ["New", "Closed"]


async def test_a_change_in_what_is_not_promoted_is_told_too(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await run(context)
    sandbox.change(change={sandbox.referral_id(3): {"salesStage": "Close", "registrations": None, "novel": [1]}})
    assert (await run(context)).counts.updated == 1
    event = (await events_of(context, "referrals.referral.changed.v1"))[0]
    assert event["changes"] == {}
    assert event["fields"] == ["novel", "registrations", "salesStage", "updatedDateTime"]
    assert len(await rows(context, "SELECT 1 FROM referral_statuses WHERE referral_id = $1", event["referral_id"])) == 1


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


async def test_the_statement_itself_lets_no_older_state_through(context: Context) -> None:
    newer = parse_referral(generate(1) | {"name": "newer"})
    older = parse_referral(generate(1) | {"name": "older", "updatedDateTime": "2020-01-01T00:00:00Z"})
    async with context.database.transaction() as conn:
        for referral in (newer, older):
            await store.save_referrals(conn, [referral])
    assert await rows(context, "SELECT name FROM partner_center_referrals") == [{"name": "newer"}]


async def test_malformed_items_are_set_aside_with_the_reason_and_stop_nothing(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(malformed_every=10)
    await connect(context, sandbox)
    done = await run(context)
    assert (done.state, done.counts.rejected, done.counts.created) == ("succeeded", 25, 225)
    rejected = await rows(context, "SELECT page, position, reason, raw, times FROM referrals_rejected ORDER BY id")
    assert sum(row["times"] for row in rejected) == 25
    assert rejected[0] == {
        "page": 1,
        "position": 0,
        "reason": "expected an object, found NoneType",
        "raw": "null",
        "times": 4,
    }
    assert len({row["reason"] for row in rejected}) == 5


async def test_a_status_that_no_index_can_hold_is_set_aside(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    sandbox.change(change={sandbox.referral_id(7): {"substatus": secrets.token_hex(5_000)}})
    done = await run(context)
    assert (done.state, done.counts.created, done.counts.rejected) == ("succeeded", 249, 1)


async def test_a_text_that_no_event_can_tell_of_is_set_aside(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    sandbox.change(change={sandbox.referral_id(7): {"customerProfile": {"name": secrets.token_hex(600_000)}}})
    done = await run(context)
    assert (done.state, done.counts.created, done.counts.rejected) == ("succeeded", 249, 1)


async def test_words_that_a_database_cannot_hold_do_not_keep_a_sync_from_ending(
    context: Context, sandbox: SandboxMicrosoft, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(context, sandbox)

    async def send(*_: Any) -> httpx.Response:
        return httpx.Response(403, content=rb'{"error": {"code": "No\u0000", "message": "half \u0000 of it"}}')

    monkeypatch.setattr(PartnerCenter, "_send", send)
    done = await run(context)
    assert (done.state, done.error_code) == ("failed", "PARTNER_CENTER_ACCESS_DENIED")
    assert "No: half of it" in (done.error or "")
    monkeypatch.undo()
    sandbox.turn(
        api_faults=[{"kind": "unauthenticated"}],
        identity_faults=[{"endpoint": "token", "error": "invalid_grant", "description": "revoked \0 by somebody"}],
    )
    done = await run(context)
    assert (done.state, "revoked by somebody" in (done.error or "")) == ("sign_in_required", True)


async def test_a_malformed_item_is_set_aside_once_however_often_it_comes(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(malformed_every=100)
    await connect(context, sandbox)
    for _ in range(3):
        assert (await run(context, mode="full")).counts.rejected == 3
    kept = await rows(context, "SELECT reason, times, last_rejected_at > rejected_at AS again FROM referrals_rejected")
    assert [(row["times"], row["again"]) for row in kept] == [(3, True)] * 3


async def test_a_known_referral_that_comes_malformed_is_not_missing(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    await connect(context, sandbox)
    await run(context)
    sandbox.turn(malformed_every=10)
    assert (await run(context, mode="full")).counts.rejected == 25
    with_id = [sandbox.referral_id(index) for index in (40, 50, 110, 120, 180, 190)]  # no time, or a NUL in the name
    missing = await rows(context, "SELECT referral_id FROM partner_center_referrals WHERE missing_since IS NOT NULL")
    assert len(missing) == 25 - len(with_id)
    assert not {row["referral_id"] for row in missing} & set(with_id)


@pytest.mark.parametrize(
    ("shape", "stored"),
    [("list", [{"profileType": "Duns", "id": "000000000"}]), ("object", {}), ("empty_list", [])],
)
async def test_ids_of_each_documented_shape_are_stored_as_they_came(
    context: Context, sandbox: SandboxMicrosoft, shape: str, stored: Any
) -> None:
    sandbox.turn(ids_shape=shape)
    await connect(context, sandbox)
    assert (await run(context)).counts.created == 250
    found = await rows(
        context,
        "SELECT DISTINCT raw -> 'customerProfile' -> 'ids' AS ids, company_name <> '' AS named "
        "FROM partner_center_referrals",
    )
    assert found == [{"ids": stored, "named": True}]


@pytest.mark.parametrize("size", [249, 250, 251], ids=["no digits", "7 digits", "6 digits"])
async def test_what_changed_at_the_very_moment_of_the_watermark_is_found_without_any_overlap(
    sandbox: SandboxMicrosoft, fresh: FreshDatabase, size: int
) -> None:
    context = make_context(some_settings(sandbox, fresh, overlap_seconds=0))
    sandbox.reset(size)
    await connect(context, sandbox)
    await run(context)
    newest = sandbox.referral_id(size - 1)
    moment = (await rows(context, "SELECT updated_raw FROM partner_center_referrals WHERE referral_id = $1", newest))[0]
    sandbox.change(change={newest: {"name": "same moment", "updatedDateTime": moment["updated_raw"]}})
    done = await run(context)
    assert (done.listing, done.counts.fetched, done.counts.updated) == ("filtered", 1, 1)
    await context.close()


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z"])
async def test_a_time_that_nobody_set_is_set_aside_and_stops_no_sync(
    context: Context, sandbox: SandboxMicrosoft, moment: str
) -> None:
    sandbox.reset(2)
    sandbox.change(change={sandbox.referral_id(1): {"updatedDateTime": moment}})
    await connect(context, sandbox)
    first = await run(context)
    assert (first.state, first.counts.created, first.counts.rejected) == ("succeeded", 1, 1)
    again = await run(context)
    assert (again.state, again.listing, again.counts.unchanged) == ("succeeded", "filtered", 1)


async def test_what_changes_on_a_page_that_a_sweep_has_passed_is_found_by_the_next_sync(
    sandbox: SandboxMicrosoft, fresh: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(some_settings(sandbox, fresh, overlap_seconds=0))
    await connect(context, sandbox)
    real = type(context.partner_center).get_page
    passed, ahead = sandbox.referral_id(5), sandbox.referral_id(240)

    async def with_changes(self: Any, target: str, token: str) -> Page:
        page = await real(self, target, token)
        if sandbox.state()["pages"] == [1]:
            sandbox.change(change={passed: {"name": "passed"}})
            sandbox.change(change={ahead: {"name": "ahead"}})  # later, and seen by the sweep
        return page

    monkeypatch.setattr(type(context.partner_center), "get_page", with_changes)
    assert (await run(context)).listing == "everything"
    monkeypatch.undo()
    names = "SELECT name FROM partner_center_referrals WHERE referral_id = ANY($1) ORDER BY referral_id"
    assert [row["name"] for row in await rows(context, names, [passed, ahead])] == [
        "Litware 000005 data platform",
        "ahead",
    ]
    assert (await run(context)).listing == "filtered"
    assert [row["name"] for row in await rows(context, names, [passed, ahead])] == ["passed", "ahead"]
    await context.close()


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
        ({"date_filter": "ignored"}, "filtered"),
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
    assert done.pages == (2 if listing == "descending" else 3)


async def test_everything_goes_through_the_proxy_of_the_settings(
    sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    async with tunnelling_proxy() as (address, asked):
        context = make_context(some_settings(sandbox, fresh, proxy_url=SecretStr(address)))
        await connect(context, sandbox)
        assert set(asked) == {f"localhost:{sandbox.port}"}  # by the sign-in
        asked.clear()
        assert (await run(context)).state == "succeeded"
        assert set(asked) == {f"localhost:{sandbox.port}"}  # by the sync
        await context.close()


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
