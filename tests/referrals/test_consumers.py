"""A sync over a real RabbitMQ: asked for, relayed, consumed, repeated."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.referrals.consumers import HANDLERS
from services.referrals.context import Context
from services.referrals.store import syncs as store
from shared import topology
from shared.db import DatabaseUnavailable
from shared.events import ReferralSyncRequested, encode
from shared.worker import Work
from tests.support.eventually import eventually
from tests.support.messages import depth, publishing, to_queue
from tests.support.microsoft import SandboxMicrosoft
from tests.support.referrals import ask, connect, value
from tests.support.running import running

WORK = Work(topology.REFERRALS_SYNC, HANDLERS)


async def state_of(context: Context, task_id: UUID) -> str:
    async with context.database.connection() as conn:
        return str((await store.get_sync(conn, task_id)).state)


async def test_a_sync_that_was_asked_for_is_carried_out_by_a_worker(
    context: Context, sandbox: SandboxMicrosoft, broker: str
) -> None:
    await connect(context, sandbox)
    task_id = await ask(context)
    async with running(context.database, broker, context=context, work=[WORK]):

        async def is_done() -> bool:
            return await state_of(context, task_id) == "succeeded"

        await eventually(is_done)
        # 250 referrals and the events around them are all confirmed by the broker in the end.
        await eventually(lambda: value(context, "SELECT NOT EXISTS (SELECT FROM outbox)"))
    assert await value(context, "SELECT count(*) FROM partner_center_referrals") == 250
    assert await depth(broker, "referrals.sync") == 0


async def test_a_message_that_is_delivered_ten_times_has_one_effect(
    context: Context, sandbox: SandboxMicrosoft, broker: str
) -> None:
    await connect(context, sandbox)
    task_id = await ask(context)
    _, body = encode(ReferralSyncRequested(task_id=task_id, mode="incremental"))
    async with publishing(broker) as publisher:
        for _ in range(10):
            await publisher.publish_one(to_queue("referrals.sync", body))
    async with running(context.database, broker, context=context, work=[WORK], relay=False):

        async def is_drained() -> bool:
            return await state_of(context, task_id) == "succeeded" and await depth(broker, "referrals.sync") == 0

        await eventually(is_drained)
    assert await value(context, "SELECT fetched FROM referral_syncs") == 250
    received = "SELECT count(*) FROM outbox WHERE routing_key = 'referrals.referral.received.v1'"
    assert await value(context, received) == 250
    assert sandbox.state()["pages"] == [1, 2, 3]


async def test_a_request_for_an_unknown_task_is_tried_again_later_and_blocks_nobody(
    context: Context, sandbox: SandboxMicrosoft, broker: str
) -> None:
    await connect(context, sandbox)
    _, body = encode(ReferralSyncRequested(task_id=UUID(int=7), mode="incremental"))
    async with publishing(broker) as publisher:
        await publisher.publish_one(to_queue("referrals.sync", body))
    task_id = await ask(context)
    async with running(context.database, broker, context=context, work=[WORK]):

        async def is_done() -> bool:
            return await state_of(context, task_id) == "succeeded"

        async def is_on_a_rung() -> bool:
            # Which one depends on how long the other sync took: after five seconds it comes to the next.
            return any([await depth(broker, f"referrals.retry.{rung}") for rung in ("5s", "30s", "5m")])

        await eventually(is_done)
        await eventually(is_on_a_rung)


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_a_fault_at_any_page_is_retried_over_the_ladder_and_resumed(
    context: Context, sandbox: SandboxMicrosoft, broker: str, page: int
) -> None:
    await connect(context, sandbox)
    sandbox.turn(api_faults=[{"kind": "server_error", "page": page, "times": 6}])
    task_id = await ask(context)
    async with running(context.database, broker, context=context, work=[WORK]):

        async def is_done() -> bool:
            return await state_of(context, task_id) == "succeeded"

        await eventually(is_done)
    assert sandbox.state()["pages"] == [1, 2, 3]


async def test_a_sync_goes_on_after_the_database_has_cut_every_connection(
    context: Context, sandbox: SandboxMicrosoft, broker: str
) -> None:
    await connect(context, sandbox)
    sandbox.turn(page_delay_seconds=0.5)
    task_id = await ask(context)
    async with running(context.database, broker, context=context, work=[WORK]):
        await eventually(lambda: value(context, "SELECT pages > 0 FROM referral_syncs"))
        cut = await value(
            context,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert cut > 0

        async def is_done() -> bool:
            try:
                return await state_of(context, task_id) == "succeeded"
            except DatabaseUnavailable:
                return False

        await eventually(is_done)
    assert await value(context, "SELECT ROW(pages, fetched, created)::text FROM referral_syncs") == "(3,250,250)"
    assert await value(context, "SELECT count(*) FROM partner_center_referrals") == 250
