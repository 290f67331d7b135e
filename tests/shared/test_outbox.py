"""The outbox and its relay."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest

from shared import outbox, telemetry, topology
from shared.bus.connection import BrokerConnection
from shared.bus.publisher import Publisher
from shared.db import Connection
from shared.events import UserChanged, UserRegistered, decode
from shared.health import Health
from shared.outbox import Relay
from shared.worker import Work
from tests.support.builders import a_user_registered
from tests.support.databases import Databases, FreshDatabase
from tests.support.eventually import eventually
from tests.support.messages import drain
from tests.support.running import running

QUEUE = topology.INVITATIONS_EVENTS


@pytest.fixture
async def fresh(databases: Databases) -> FreshDatabase:
    return await databases.make("auth")


async def waiting(fresh: FreshDatabase) -> int:
    async with fresh.database.connection() as conn:
        count: int = await conn.fetchval("SELECT count(*) FROM outbox")
        return count


async def is_empty(fresh: FreshDatabase) -> bool:
    return await waiting(fresh) == 0


async def test_an_event_of_a_rolled_back_transaction_never_leaves(fresh: FreshDatabase, broker: str) -> None:
    undecided = await fresh.database.dedicated()
    transaction = undecided.transaction()
    await transaction.start()
    await outbox.add(undecided, a_user_registered(1))
    await transaction.rollback()
    await undecided.close()
    async with fresh.database.transaction() as conn:
        await outbox.add(conn, a_user_registered(2))
    async with running(fresh.database, broker):
        await eventually(lambda: is_empty(fresh))
    assert [decode(body).event.user_id for body in await drain(broker, QUEUE.name)] == [2]  # type: ignore[attr-defined]


async def test_events_are_numbered_without_gaps_in_the_order_in_which_they_were_decided(
    fresh: FreshDatabase, broker: str
) -> None:
    for start in (0, 700):  # the second relay starts where the first one, which is gone, left off
        async with fresh.database.transaction() as conn:
            await outbox.add_many(conn, [a_user_registered(start + number) for number in range(700)])
        async with running(fresh.database, broker):
            await eventually(lambda: is_empty(fresh))
    bodies = await drain(broker, QUEUE.name)
    assert [decode(body).sequence for body in bodies] == list(range(1, 1401))
    assert [orjson.loads(body)["data"]["user_id"] for body in bodies] == list(range(1400))


async def test_a_row_that_becomes_visible_late_is_published_although_younger_rows_went_before(
    fresh: FreshDatabase, broker: str
) -> None:
    slow = await fresh.database.dedicated()
    transaction = slow.transaction()
    await transaction.start()
    await outbox.add(slow, a_user_registered(1))  # takes its id now, is committed last
    async with running(fresh.database, broker):
        async with fresh.database.transaction() as conn:
            await outbox.add(conn, a_user_registered(2))
        await eventually(lambda: is_empty(fresh))
        await transaction.commit()
        await slow.close()
        await eventually(lambda: is_empty(fresh))
    assert [orjson.loads(body)["data"]["user_id"] for body in await drain(broker, QUEUE.name)] == [2, 1]


async def test_while_the_queue_of_an_event_is_missing_it_waits_and_the_others_go_on(
    fresh: FreshDatabase, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_HOLD_SECONDS", 1)
    async with fresh.database.transaction() as conn:
        # 600 rows, more than a batch, for which no queue is bound, before one for which there is one.
        await conn.execute(
            """INSERT INTO outbox (event_id, routing_key, envelope)
               SELECT gen_random_uuid(), 'nobody.listens.here.v1', '{}' FROM generate_series(1, 600)"""
        )
        await outbox.add(conn, a_user_registered(7))
    monkeypatch.setattr(topology, "_CONSUMED", topology._CONSUMED | {"nobody.listens.here.v1"})
    async with running(fresh.database, broker):
        await eventually(lambda: waiting_is(fresh, 600))
    assert len(await drain(broker, QUEUE.name)) == 1


async def waiting_is(fresh: FreshDatabase, count: int) -> bool:
    return await waiting(fresh) == count


async def test_an_event_that_nobody_of_ours_consumes_leaves_all_the_same(fresh: FreshDatabase, broker: str) -> None:
    async with fresh.database.transaction() as conn:
        await conn.execute(
            """INSERT INTO outbox (event_id, routing_key, envelope)
               VALUES (gen_random_uuid(), 'nobody.listens.here.v1', '{}')"""
        )
    async with running(fresh.database, broker):
        await eventually(lambda: is_empty(fresh))


async def test_one_relay_leads_and_the_standby_takes_over_when_its_session_dies(
    fresh: FreshDatabase, broker: str
) -> None:
    connection = BrokerConnection(broker, purpose="test")
    healths = [Health(), Health()]
    tasks = [asyncio.create_task(Relay(fresh.database, Publisher(connection), health).run()) for health in healths]
    try:
        await eventually(lambda: sorted(h.report().get("relay", "") for h in healths) == ["leading", "standing by"])
        owner = await asyncpg.connect(fresh.owner_url)
        await owner.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        )
        await owner.close()
        async with fresh.database.transaction() as conn:
            await outbox.add_many(conn, [a_user_registered(number) for number in range(50)])
        await eventually(lambda: is_empty(fresh))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()
    assert [decode(body).sequence for body in await drain(broker, QUEUE.name)] == list(range(1, 51))


async def test_what_a_handler_decides_carries_the_request_and_the_event_that_caused_it(
    databases: Databases, broker: str
) -> None:
    fresh = await databases.make("invitations")
    kept: list[telemetry.Trace] = []

    async def follow_up(_: Any, conn: Connection, event: UserRegistered) -> None:
        await outbox.add(conn, UserChanged(**event.model_dump()))

    async def keep(_: Any, __: Connection, ___: UserChanged) -> None:
        kept.append(telemetry.current())

    work = [Work(QUEUE, {UserRegistered: follow_up, UserChanged: keep})]
    with telemetry.use(telemetry.Trace("request-of-the-test", traceparent=telemetry.new_traceparent())) as trace:
        async with fresh.database.transaction() as conn:
            first = await outbox.add(conn, a_user_registered(1))
    async with running(fresh.database, broker, work=work):
        await eventually(lambda: kept)
    assert kept[0].request_id == "request-of-the-test"
    assert kept[0].causation_id != str(first)  # it was caused by the second event, which the first one caused
    assert kept[0].traceparent is not None
    assert kept[0].traceparent[:35] == (trace.traceparent or "")[:35]


async def test_an_event_that_no_broker_would_take_is_refused_when_it_is_decided(fresh: FreshDatabase) -> None:
    async with fresh.database.transaction() as conn:
        with pytest.raises(outbox.EventTooLarge):
            await outbox.add(conn, a_user_registered(1, full_name="x" * 2_000_000))
    assert await is_empty(fresh)
