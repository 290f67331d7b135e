"""Messages of which nobody knows whether they were sent: asked for, never simply sent again, left to a person."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.invitations.commands import sweeping
from services.invitations.commands.packing import Parcel
from services.invitations.domain.deliveries import settle_answer, settle_look_up
from services.invitations.domain.messages import Accepted, NotFound, NotSent, Rejected, Unknown
from services.invitations.store import deliveries
from tests.invitations.conftest import SandboxProvider, sending
from tests.invitations.lists import finished
from tests.invitations.stage import BULK, Stage
from tests.invitations.steps import age_leases, begin, claim, queued, states
from tests.support.eventually import eventually


async def test_what_a_dead_sender_was_sending_is_asked_of_the_provider_first(
    stage: Stage, provider: SandboxProvider
) -> None:
    """Died before the socket write: the provider knows nothing, so it is sent now."""
    job_id = await queued(stage)
    assert len(await begin(stage, await claim(stage))) == 3
    await age_leases(stage)
    await sweeping.sweep_deliveries(stage.context.database)
    assert await states(stage) == {"unknown"}
    assert (await stage.progress(job_id))["counts"]["unknown"] == 3
    async with sending(stage.context):
        await finished(stage, job_id, sent=3)
    assert set(provider.phones().values()) == {1}
    attempts = await stage.query("SELECT outcome FROM delivery_attempts ORDER BY number, outcome")
    assert [row["outcome"] for row in attempts] == ["lost"] * 3 + ["accepted"] * 3


@pytest.mark.parametrize("batch", [False, True])
async def test_what_was_sent_before_the_sender_died_is_not_sent_again(
    stage: Stage, provider: SandboxProvider, batch: bool
) -> None:
    """Died after the socket write: the provider has it, so it is only noted."""
    job_id = await queued(stage)
    ids = await claim(stage)
    batch_id = ids[0] if batch else None
    await begin(stage, ids, batch_id=batch_id)
    async with stage.context.database.connection() as conn:
        rows = await deliveries.list_outgoing(conn, ids)
    messages = [stage.context.sender._message(row) for row in rows]
    verimor = stage.context.verimor
    assert verimor is not None
    if batch_id:
        await verimor.send_many(batch_id, messages)
    else:
        await asyncio.gather(*(verimor.send(message) for message in messages))
    await age_leases(stage)
    async with sending(stage.context):
        await finished(stage, job_id, sent=3)
    assert len(provider.messages()) == 3


async def test_a_failure_that_only_a_look_up_tells_of_is_told_to_others_too(
    stage: Stage, provider: SandboxProvider
) -> None:
    """The answer and the report were lost; who listens to events hears what a report would have made us say."""
    provider.turn(undelivered_rate=1.0)
    await queued(stage, 1)
    ids = await claim(stage)
    await begin(stage, ids)
    async with stage.context.database.connection() as conn:
        (row,) = await deliveries.list_outgoing(conn, ids)
    assert stage.context.verimor is not None
    await stage.context.verimor.send(stage.context.sender._message(row))
    await eventually(lambda: provider.messages()[0]["status"] == "NOT_DELIVERED")
    await age_leases(stage)
    await sweeping.sweep_deliveries(stage.context.database)
    assert await look_up(stage, 1) == 1
    assert await states(stage) == {"undelivered"}
    assert len(await stage.events("invitations.invitation.sent.v1")) == 1
    (failed,) = await stage.events("invitations.invitation.failed.v1")
    assert failed["reason"] == "undelivered"


async def test_news_of_an_earlier_attempt_does_not_send_a_message_that_is_under_way_again(stage: Stage) -> None:
    """A process that was cut off from the database, or asked the provider too slowly, tells of what is long past."""
    await queued(stage, 1)
    (delivery_id,) = await claim(stage)
    await begin(stage, [delivery_id])
    await age_leases(stage)
    await sweeping.sweep_deliveries(stage.context.database)
    await sweeping.look_up_unknown(stage.context.database, stage.context.providers, stage.context.sealer)
    assert await states(stage) == {"queued"}
    assert await begin(stage, await claim(stage)) == {delivery_id: 2}
    never = NotFound(authoritative=True)
    late = [
        settle_answer(delivery_id, NotSent("429"), attempt=1),
        settle_answer(delivery_id, Rejected("400", "no"), attempt=1),
        settle_answer(delivery_id, Unknown("ReadTimeout"), attempt=1),
        settle_look_up(delivery_id, never, attempt=1, look_ups=0, was_requeued=False),
        settle_look_up(delivery_id, never, attempt=1, look_ups=2, was_requeued=True),
    ]
    for settlement in late:
        async with stage.context.database.transaction() as conn:
            assert await deliveries.settle(conn, [settlement]) == []
    assert await states(stage) == {"sending"}
    async with stage.context.database.transaction() as conn:
        assert await deliveries.settle(conn, [settle_answer(delivery_id, Accepted("1"), attempt=1)])
    assert await states(stage) == {"accepted"}, "that the provider has it is true whoever tells it"


async def test_a_process_that_stood_still_does_not_send_what_others_may_have_taken(
    stage: Stage, provider: SandboxProvider
) -> None:
    job_id = await queued(stage, 2)
    sender, verimor = stage.context.sender, stage.context.verimor
    assert verimor is not None
    ids = await claim(stage, sender.name)
    async with stage.context.database.connection() as conn:
        rows = await deliveries.list_outgoing(conn, ids)
    attempts = await begin(stage, ids, sender.name)
    await sender._send(verimor, Parcel(ids[0], rows), attempts, until=time.monotonic())
    assert provider.messages() == []

    async def queued_again() -> bool:
        return await states(stage) == {"queued"}

    await eventually(queued_again)
    async with sending(stage.context):
        await finished(stage, job_id, sent=2)
    assert set(provider.phones().values()) == {1}


async def lost(stage: Stage, number: int, *, together: bool) -> None:
    """Leave so many messages of unknown outcome behind, in one request or in one each."""
    await queued(stage, number)
    ids = await claim(stage)
    await begin(stage, ids, batch_id=ids[0] if together else None)
    await age_leases(stage)
    await sweeping.sweep_deliveries(stage.context.database)


async def look_up(stage: Stage, times: int) -> int:
    """Look for what is due so many times; gives the number of messages that were asked for."""
    context = stage.context
    return sum(
        [await sweeping.look_up_unknown(context.database, context.providers, context.sealer) for _ in range(times)]
    )


async def test_all_messages_of_a_lost_request_are_asked_for_at_once(stage: Stage, provider: SandboxProvider) -> None:
    await lost(stage, 60, together=True)
    assert await look_up(stage, 3) == 60
    assert provider.answers()["verimor look-up"] == 1
    assert await states(stage) == {"queued"}


async def test_a_provider_is_asked_no_more_often_than_it_allows(stage: Stage, provider: SandboxProvider) -> None:
    """Verimor takes 20 questions a minute; the other messages wait for their turn."""
    await lost(stage, 30, together=False)
    started = time.monotonic()
    asked = await look_up(stage, 5)
    assert 20 <= asked <= 20 + (time.monotonic() - started) * 20 / 60
    assert provider.answers()["verimor look-up"] == asked
    assert await states(stage) == {"queued", "unknown"}
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE provider_accounts SET refilled_at = now() - interval '1 minute'")
    await look_up(stage, 1)
    assert await states(stage) == {"queued"}


async def test_answers_that_are_lost_are_never_simply_sent_again(stage: Stage, provider: SandboxProvider) -> None:
    provider.turn(accept_then_drop_rate=1.0)
    job_id = await queued(stage, 5)
    async with sending(stage.context):

        async def unknown() -> bool:
            return await states(stage) == {"unknown"}

        await eventually(unknown)
        await asyncio.sleep(0.5)
        assert await states(stage) == {"unknown"}
        async with stage.context.database.transaction() as conn:
            await conn.execute("UPDATE deliveries SET due_at = now()")
        await finished(stage, job_id, sent=5)
    assert len(provider.messages()) == 5


async def test_a_provider_that_never_heard_of_a_message_twice_leaves_it_to_a_person(
    stage: Stage, provider: SandboxProvider
) -> None:
    provider.turn(drop_rate=1.0)
    job_id = await queued(stage, 2)
    async with sending(stage.context):

        async def reviewed() -> bool:
            async with stage.context.database.transaction() as conn:
                await conn.execute("UPDATE deliveries SET due_at = now() WHERE state = 'unknown'")
            return await states(stage) == {"needs_review"}

        await eventually(reviewed)
        progress = await finished(stage, job_id, needs_review=2)
    assert progress["status"] == "CompletedWithErrors"
    assert (await stage.left("M"))["reserved"] == 2, "codes stay while nobody knows"
    results = await stage.http.get(f"{BULK}/{job_id}/results?format=csv", headers=stage.sponsor())
    assert results.text.count("belirlenemedi") == 2, "the list says which rows need a person"
    assert provider.messages() == []


async def test_a_provider_that_is_not_in_use_any_more_leaves_its_messages_to_a_person(stage: Stage) -> None:
    job_id = await queued(stage, 2)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE deliveries SET state = 'unknown', provider = 'gone', due_at = now()")
        await conn.execute("UPDATE job_rows SET outcome = 'unknown'")

    async def reviewed() -> bool:
        async with stage.context.database.transaction() as conn:
            await conn.execute("UPDATE deliveries SET due_at = now() WHERE state = 'unknown'")
        return await states(stage) == {"needs_review"}

    async with sending(stage.context):
        await eventually(reviewed)
        await finished(stage, job_id, needs_review=2)
