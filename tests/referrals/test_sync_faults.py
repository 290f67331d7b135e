"""What a sync does when Microsoft, the token or another worker gets in its way."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.referrals.commands import sync
from services.referrals.commands.connection import Access, Credential, get_credential
from services.referrals.context import Context, make_context
from services.referrals.domain.failures import (
    PartnerCenterDisabled,
    PartnerCenterUnavailable,
    SyncOvertaken,
    TokenRefused,
)
from services.referrals.domain.syncs import Counts, Sync
from services.referrals.partner_center import Page, PartnerCenter
from tests.support.databases import FreshDatabase
from tests.support.microsoft import SandboxMicrosoft, running_microsoft
from tests.support.referrals import (
    ask,
    connect,
    events_of,
    rows,
    run,
    some_settings,
)


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


async def test_after_a_long_retry_after_the_schedule_asks_again_and_not_before(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    await connect(context, sandbox)
    sandbox.turn(api_faults=[{"kind": "throttled", "page": 2, "retry_after": "120"}])
    task_id = await ask(context)
    waiting = await run(context, task_id)
    assert (waiting.state, waiting.pages, waiting.error_code) == ("running", 1, "PARTNER_CENTER_THROTTLED")
    left = (await rows(context, "SELECT wait_until - now() AS left FROM referral_syncs"))[0]["left"]
    assert timedelta(seconds=60) < left <= timedelta(seconds=120)
    await sync.request_due_sync(context.database, context.rules)
    assert (await run(context, task_id)).pages == 1  # a message that comes too early does nothing
    assert len(await events_of(context, "referrals.sync.requested.v1")) == 1
    await rows(context, "UPDATE referral_syncs SET wait_until = now() RETURNING 1")
    await sync.request_due_sync(context.database, context.rules)
    assert len(await events_of(context, "referrals.sync.requested.v1")) == 2
    assert (await run(context, task_id)).state == "succeeded"
    assert sandbox.state()["pages"] == [1, 2, 3]


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
        ({"kind": "insufficient_claims"}, 0),
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


async def test_a_refusal_of_the_old_token_does_not_end_a_sign_in_that_has_replaced_it(
    context: Context, sandbox: SandboxMicrosoft, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.turn(with_mfa=False)
    await connect(context, sandbox)
    real = PartnerCenter.get_page

    async def after_a_new_sign_in(self: PartnerCenter, target: str, token: str) -> Page:
        if not sandbox.state()["knobs"]["with_mfa"]:
            sandbox.turn(with_mfa=True)
            await connect(context, sandbox)
        return await real(self, target, token)

    monkeypatch.setattr(PartnerCenter, "get_page", after_a_new_sign_in)
    assert (await run(context)).state == "succeeded"
    assert await events_of(context, "referrals.sign_in.required.v1") == []
    assert sandbox.state()["requests"]["GET /v1.0/engagements/referrals"] == 4  # one with the old token


async def test_a_refusal_of_what_was_read_ahead_does_not_end_a_sign_in_that_has_replaced_it(
    context: Context, sandbox: SandboxMicrosoft, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(context, sandbox)
    sandbox.turn(api_faults=[{"kind": "mfa_required", "page": 2}])
    refused = asyncio.Event()
    real_page, real_store = PartnerCenter.get_page, sync._store_page

    async def noticed(self: PartnerCenter, target: str, token: str) -> Page:
        try:
            return await real_page(self, target, token)
        except TokenRefused:
            refused.set()
            raise

    async def while_somebody_signs_in(*arguments: Any) -> Any:
        if not refused.is_set():
            await refused.wait()
            await connect(context, sandbox)
        return await real_store(*arguments)

    monkeypatch.setattr(PartnerCenter, "get_page", noticed)
    monkeypatch.setattr(sync, "_store_page", while_somebody_signs_in)
    assert (await run(context)).state == "succeeded"
    assert await events_of(context, "referrals.sign_in.required.v1") == []


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


async def test_another_server_that_a_next_link_names_hears_nothing_of_a_sync(
    context: Context, sandbox: SandboxMicrosoft, tmp_path: Path
) -> None:
    await connect(context, sandbox)
    with running_microsoft(tmp_path) as foreign:
        sandbox.turn(next_link="foreign_host", foreign_host=f"localhost:{foreign.port}")
        assert (await run(context)).error_code == "PARTNER_CENTER_NEXT_LINK_REFUSED"
        assert foreign.state()["requests"] == {}


@pytest.mark.parametrize(("next_link", "pages"), [("own_page", 1), ("circle", 3)])
async def test_next_links_that_lead_back_end_the_sync(
    context: Context, sandbox: SandboxMicrosoft, next_link: str, pages: int
) -> None:
    await connect(context, sandbox)
    sandbox.turn(next_link=next_link, page_size=20)
    done = await run(context)
    assert (done.pages, done.error_code) == (pages, "PARTNER_CENTER_NEXT_LINK_REFUSED")
    assert "read already" in (done.error or "")


async def test_when_no_continuation_is_taken_the_switch_for_it_is_named(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    await connect(context, sandbox)
    sandbox.turn(skip_token_honoured_on="given_path")
    done = await run(context)
    assert (done.state, done.error_code) == ("failed", "PARTNER_CENTER_QUERY_REFUSED")
    assert "HUNTER_PARTNER_CENTER_NEXT_LINK" in (done.error or "")
    switched = make_context(some_settings(sandbox, fresh, next_link="follow"))
    assert (await run(switched)).state == "succeeded"
    await switched.close()


async def test_a_token_granted_under_another_scope_is_not_renewed_for_each_page(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(granted_scope="https://api.partner.microsoft.com/user_impersonation openid profile")
    await connect(context, sandbox)
    assert (await run(context)).pages == 3
    assert "refresh_token:issued" not in sandbox.state()["token_calls"]


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


async def test_a_sync_that_was_queued_before_the_flag_went_off_is_skipped_and_says_so(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    await connect(context, sandbox)
    task_id = await ask(context)
    off = make_context(some_settings(sandbox, fresh, enabled=False))
    done = await run(off, task_id)
    assert (done.state, done.error_code) == ("failed", "PARTNER_CENTER_DISABLED")
    assert any("partner_center_sync_skipped reason=disabled" in record.getMessage() for record in caplog.records)
    assert sandbox.state()["pages"] == []
    await off.close()


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


async def test_a_worker_that_was_overtaken_at_its_page_stores_nothing_of_it(
    sandbox: SandboxMicrosoft, fresh: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = (make_context(some_settings(sandbox, fresh, request_attempts=1)) for _ in range(2))
    await connect(slow, sandbox)
    task_id = await ask(slow)
    sandbox.turn(api_faults=[{"kind": "server_error", "page": 2}])
    real = PartnerCenter.get_page

    async def overtaken(self: PartnerCenter, target: str, token: str) -> Page:
        page = await real(self, target, token)
        if self is slow.partner_center:
            with pytest.raises(PartnerCenterUnavailable):
                await run(fast, task_id)  # stores page 1 and stops at page 2
        return page

    monkeypatch.setattr(PartnerCenter, "get_page", overtaken)
    with pytest.raises(SyncOvertaken):
        await run(slow, task_id)
    done = await run(fast, task_id)
    assert (done.state, done.pages, done.counts.fetched, done.counts.created) == ("succeeded", 3, 250, 250)
    for context in (slow, fast):
        await context.close()


async def test_a_worker_that_begins_late_takes_no_sightings_from_one_that_is_further(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(context, sandbox)
    await run(context)
    late = make_context(some_settings(sandbox, fresh, request_attempts=1))
    task_id = await ask(context, "full")
    real_store, tasks = sync._store_page, list[asyncio.Task[Sync]]()
    late_has_begun, first_page_is_stored = asyncio.Event(), asyncio.Event()

    async def slow_credential(access: Access, **more: Any) -> Credential:
        if access is late.access:
            late_has_begun.set()
            await first_page_is_stored.wait()
        return await get_credential(access, **more)

    async def store_page(*arguments: Any) -> Any:
        if not tasks:
            tasks.append(asyncio.create_task(run(late, task_id)))
            await late_has_begun.wait()
            stored = await real_store(*arguments)
            first_page_is_stored.set()
            await asyncio.wait(tasks)
            return stored
        return await real_store(*arguments)

    monkeypatch.setattr(sync, "get_credential", slow_credential)
    monkeypatch.setattr(sync, "_store_page", store_page)
    assert (await run(context, task_id)).state == "succeeded"
    assert isinstance(tasks[0].exception(), SyncOvertaken)
    assert await rows(context, "SELECT 1 FROM partner_center_referrals WHERE missing_since IS NOT NULL") == []
    await late.close()


async def test_who_dies_between_the_last_page_and_the_end_leaves_nothing_to_read_again(
    context: Context, sandbox: SandboxMicrosoft, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(context, sandbox)
    task_id = await ask(context)

    async def dies(*_: Any) -> None:
        raise ConnectionError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(sync, "_succeed", dies)
        with pytest.raises(ConnectionError):
            await run(context, task_id)
    done = await run(context, task_id)
    assert (done.state, done.pages, done.counts) == ("succeeded", 3, Counts(fetched=250, created=250))
    assert sandbox.state()["pages"] == [1, 2, 3]


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
