"""The delivery state machine at each place where a process may die or a provider be in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from services.invitations.commands import sweeping
from services.invitations.domain.messages import Accepted, NotSent, Outcome, OutgoingMessage, Rejected
from services.invitations.domain.quiet import ISTANBUL
from services.invitations.settings import InvitationsSettings
from tests.invitations.conftest import SandboxProvider, sending
from tests.invitations.lists import farmers, finished, xlsx
from tests.invitations.stage import LIST, Stage, opened, recipients
from tests.invitations.steps import age_leases, all_under_way, begin, claim, hold_answers, queued, states
from tests.support.eventually import eventually
from tests.support.tokens import Issuer


async def test_what_a_dead_sender_had_claimed_is_sent_by_another(stage: Stage, provider: SandboxProvider) -> None:
    job_id = await queued(stage)
    assert len(await claim(stage)) == 3
    assert await claim(stage, "other") == []
    await age_leases(stage)
    async with sending(stage.context):
        await finished(stage, job_id, sent=3)
    assert set(provider.phones().values()) == {1}


async def test_a_sender_whose_lease_is_over_may_not_begin_any_more(stage: Stage) -> None:
    await queued(stage)
    ids = await claim(stage)
    await age_leases(stage)
    assert await begin(stage, ids) == {}


async def test_too_many_requests_only_delay(stage: Stage, provider: SandboxProvider) -> None:
    provider.turn(too_many_rate=1.0, retry_after_seconds=1)
    job_id = await queued(stage, 5)
    async with sending(stage.context):

        async def waits() -> bool:
            return bool(await stage.query("SELECT 1 FROM delivery_attempts WHERE outcome = 'notsent'"))

        await eventually(waits)
        provider.turn(too_many_rate=0.0)
        await finished(stage, job_id, sent=5)
    assert set(provider.phones().values()) == {1}


async def test_a_provider_that_fails_again_and_again_is_left_alone_for_a_while(
    settings: InvitationsSettings, issuer: Issuer, provider: SandboxProvider
) -> None:
    """The circuit is open for all senders, and what has not been tried keeps its place."""
    few = settings.model_copy(update={"requests_at_once": 5})
    async with opened(few, issuer) as stage, opened(few, issuer) as other:
        await stage.register(6, "Sponsor")
        # Beside answers that take their time, the senders hear of the failures before they have tried many more.
        provider.turn(server_error_rate=1.0, latency_seconds=0.2)
        await stage.stock("M", 300)
        fields = {"channel": "WhatsApp"}
        job_id = int((await stage.upload(xlsx(farmers(300)), fields=fields)).json()["data"]["jobId"])
        await stage.place_all(job_id)

        async def is_open() -> bool:
            return bool(await stage.query("SELECT 1 FROM provider_accounts WHERE paused_until > now()"))

        async with sending(stage.context), sending(other.context):
            await eventually(is_open)
            (tried,) = await stage.query("SELECT count(*) AS n FROM delivery_attempts")
            await asyncio.sleep(1.0)
            (now,) = await stage.query("SELECT count(*) AS n FROM delivery_attempts")
            assert now["n"] == tried["n"] < 200
            assert (await stage.outcomes(job_id)).get("failed", 0) == 0


async def test_a_refused_account_stops_the_channel_and_fails_no_row(stage: Stage, provider: SandboxProvider) -> None:
    provider.turn(account_refused=True)
    job_id = await queued(stage, 5)
    async with sending(stage.context):

        async def paused() -> bool:
            return bool(
                await stage.query("SELECT 1 FROM provider_accounts WHERE paused_until > now() + interval '30 s'")
            )

        await eventually(paused)
    assert (await stage.outcomes(job_id)).get("failed", 0) == 0


async def test_one_wrong_message_does_not_spoil_its_batch(stage: Stage, provider: SandboxProvider) -> None:
    provider.turn(rejected_phones=["+905420000001"])
    job_id = await queued(stage, 4)
    async with sending(stage.context):
        progress = await finished(stage, job_id, sent=3, failed=1)
    assert progress["status"] == "CompletedWithErrors"
    assert set(provider.phones()) == {"+905420000000", "+905420000002", "+905420000003"}
    assert (await stage.left("M"))["available"] == 1


async def test_many_messages_go_out_in_few_requests(stage: Stage, provider: SandboxProvider) -> None:
    job_id = await queued(stage, 250)
    async with sending(stage.context):
        await finished(stage, job_id, sent=250)
    requests = await stage.query("SELECT DISTINCT batch_id FROM deliveries")
    assert len(requests) <= 4
    assert len(provider.messages()) == 250


async def test_all_senders_share_the_pace_of_an_account(settings: InvitationsSettings, issuer: Issuer) -> None:
    slow = settings.model_copy(update={"messages_per_second": 20.0, "messages_burst": 10.0})
    async with opened(slow, issuer) as stage, opened(slow, issuer) as other:
        await stage.register(6, "Sponsor")
        job_id = await queued(stage, 40)
        started = asyncio.get_running_loop().time()
        async with sending(stage.context), sending(other.context):
            await finished(stage, job_id, sent=40)
        assert asyncio.get_running_loop().time() - started >= (40 - 10) / 20


async def test_a_slow_pace_still_fills_requests(
    settings: InvitationsSettings, issuer: Issuer, provider: SandboxProvider
) -> None:
    """A provider that takes 240 requests a minute must not get one for each message that the pace lets through."""
    slow = settings.model_copy(update={"messages_per_second": 100.0, "messages_burst": 50.0})
    async with opened(slow, issuer) as stage:
        await stage.register(6, "Sponsor")
        job_id = await queued(stage, 150)
        async with sending(stage.context):
            await finished(stage, job_id, sent=150)
        requests = await stage.query("SELECT DISTINCT coalesce(batch_id, id) FROM deliveries")
    assert len(requests) <= 6
    assert set(provider.phones().values()) == {1}


async def test_nothing_goes_out_in_a_sponsors_quiet_hours(stage: Stage, provider: SandboxProvider) -> None:
    now = datetime.now(ISTANBUL)
    around_now = {
        "from": (now - timedelta(hours=1)).strftime("%H:%M"),
        "to": (now + timedelta(hours=1)).strftime("%H:%M"),
    }
    answer = await stage.http.put("/api/Sponsorship/quiet-hours", json=around_now, headers=stage.sponsor())
    assert (answer.status_code, answer.json()["data"]) == (200, around_now)
    await stage.stock("M", 1)
    call = (await stage.invite(recipients(1, first=9))).json()["data"]
    assert call["results"][0]["deliveryStatus"] == "Pending"
    job_id = await queued(stage, 2)
    async with sending(stage.context):

        async def all_wait() -> bool:
            (row,) = await stage.query(
                "SELECT bool_and(state = 'queued' AND due_at > now() + interval '55 min') AS wait FROM deliveries"
            )
            return bool(row["wait"])

        await eventually(all_wait)
        assert provider.messages() == []
        (row,) = await stage.query("SELECT max(due_at) - now() AS wait FROM deliveries")
        assert row["wait"] <= timedelta(hours=1)
        none = {"from": None, "to": None}
        assert (
            await stage.http.put("/api/Sponsorship/quiet-hours", json=none, headers=stage.sponsor())
        ).status_code == 200
        await finished(stage, job_id, sent=2)
    shown = await stage.http.get("/api/Sponsorship/quiet-hours", headers=stage.sponsor())
    assert shown.json()["data"] == {"from": None, "to": None}
    for wrong in ({"from": "21:00", "to": None}, {"from": "21:00", "to": "21:00"}, {"from": "25:00", "to": "1:00"}, {}):
        answer = await stage.http.put("/api/Sponsorship/quiet-hours", json=wrong, headers=stage.sponsor())
        assert answer.status_code == 422, wrong


async def test_the_end_of_quiet_hours_frees_also_what_had_failed_before_them(stage: Stage) -> None:
    """A message that was refused for the pace and came back in the quiet hours waits for these, not for the pace."""
    now = datetime.now(ISTANBUL)
    around_now = {
        "from": (now - timedelta(hours=1)).strftime("%H:%M"),
        "to": (now + timedelta(hours=1)).strftime("%H:%M"),
    }
    await stage.http.put("/api/Sponsorship/quiet-hours", json=around_now, headers=stage.sponsor())
    job_id = await queued(stage, 1)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE deliveries SET error_code = 'NOT_SENT', error_message = 'rate limited'")
    async with sending(stage.context):

        async def waits() -> bool:
            return bool(await stage.query("SELECT 1 FROM deliveries WHERE due_at > now() + interval '55 min'"))

        await eventually(waits)
        none = {"from": None, "to": None}
        await stage.http.put("/api/Sponsorship/quiet-hours", json=none, headers=stage.sponsor())
        await finished(stage, job_id, sent=1)


async def test_what_waits_for_a_provider_that_is_not_in_use_any_more_goes_out_by_another(
    stage: Stage, provider: SandboxProvider
) -> None:
    job_id = await queued(stage, 2)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE deliveries SET provider = 'gone'")
    assert await sweeping.reroute_messages(stage.context.database, stage.context.providers, {"SMS": "verimor"}) == 2
    assert await sweeping.reroute_messages(stage.context.database, stage.context.providers, {"SMS": "verimor"}) == 0
    async with sending(stage.context):
        await finished(stage, job_id, sent=2)
    assert set(provider.phones().values()) == {1}


async def test_a_message_of_an_invitation_that_ended_meanwhile_is_not_sent(
    stage: Stage, provider: SandboxProvider
) -> None:
    await queued(stage, 1)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE invitations SET status = 'Accepted'")
    async with sending(stage.context):

        async def cancelled() -> bool:
            return await states(stage) == {"cancelled"}

        await eventually(cancelled)
    assert provider.messages() == []


async def test_an_invitation_taken_back_while_its_message_is_under_way_stays_taken_back(stage: Stage) -> None:
    await stage.stock("M", 1)
    answered = hold_answers(stage)
    call = asyncio.create_task(stage.invite(recipients(1)))
    await all_under_way(stage)
    (row,) = await stage.query("SELECT id FROM invitations")
    assert (await stage.http.post(f"{LIST}/{row['id']}/cancel", headers=stage.sponsor())).status_code == 200
    answered.set()
    await call
    (row,) = await stage.query("SELECT status FROM invitations")
    assert row["status"] == "Cancelled"
    assert (await stage.left("M"))["available"] == 1


async def test_an_invitation_taken_back_while_its_request_is_refused_is_not_announced(
    stage: Stage, provider: SandboxProvider
) -> None:
    """One wrong number spoils a request; its other messages go out one by one, but not one that nobody wants now."""
    await stage.stock("M", 3)
    provider.turn(rejected_phones=["+905420000000"])
    answered = hold_answers(stage)
    call = asyncio.create_task(stage.invite(recipients(3)))
    await all_under_way(stage)
    (row,) = await stage.query("SELECT id FROM invitations WHERE phone = '+905420000001'")
    assert (await stage.http.post(f"{LIST}/{row['id']}/cancel", headers=stage.sponsor())).status_code == 200
    answered.set()
    results = (await call).json()["data"]["results"]
    assert [result["deliveryStatus"] for result in results] == ["Failed - Delivery", "Cancelled", "Sent"]
    assert set(provider.phones()) == {"+905420000002"}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(Rejected("BAD\0", "\ud800 \0"), "failed"), (NotSent.rate_limited("9" * 400), "sending")],
)
async def test_an_odd_answer_does_not_hold_up_what_else_was_answered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, answer: Outcome, outcome: str
) -> None:
    """Postgres takes no NUL and no end of time; answers are settled together, so one must not spoil the others."""
    verimor = stage.context.verimor
    assert verimor is not None

    async def send_many(batch_id: UUID, messages: Sequence[OutgoingMessage]) -> list[Outcome]:
        del batch_id
        return [answer, *[Accepted("1")] * (len(messages) - 1)]

    monkeypatch.setattr(verimor, "send_many", send_many)
    job_id = await queued(stage, 3)
    async with sending(stage.context):

        async def settled() -> bool:
            return await stage.outcomes(job_id) == {"sent": 2, outcome: 1} and not await stage.query(
                "SELECT 1 FROM deliveries WHERE state = 'sending' OR due_at > now() + interval '10 min'"
            )

        await eventually(settled)


async def test_expired_invitations_are_not_announced(stage: Stage, provider: SandboxProvider) -> None:
    job_id = await queued(stage, 2)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE invitations SET expires_at = now() - $1::interval", timedelta(seconds=1))
    await sweeping.expire_invitations(stage.context.database)
    async with sending(stage.context):
        await finished(stage, job_id, cancelled=2)
    assert provider.messages() == []
