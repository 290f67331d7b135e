"""Broker → consumer → inbox → effect, on a real Postgres and a real RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from shared import outbox, topology
from shared.bus.connection import BrokerConnection
from shared.bus.consumer import Consumer, Wiring
from shared.bus.dead_letters import DeadLetters
from shared.bus.handling import Delivery, Handler, batch, outside
from shared.bus.publisher import Interrupted, Outgoing, Publisher, Refused
from shared.db import Connection, Database, DatabaseUnavailable
from shared.errors import Conflict, Invalid, NotFound, Unavailable
from shared.events import Event, UserChanged, UserRegistered
from shared.health import Health
from shared.worker import Work
from tests.support.builders import a_user_registered, an_envelope
from tests.support.databases import Databases, FreshDatabase
from tests.support.eventually import eventually
from tests.support.messages import depth, publishing, to_queue
from tests.support.running import running

QUEUE = topology.INVITATIONS_EVENTS


@pytest.fixture
async def fresh(databases: Databases) -> FreshDatabase:
    """A database with outbox and inbox."""
    return await databases.make("invitations")


class Effects:
    """Handlers that note what they saw and fail on demand."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.failures: dict[int, list[Exception]] = {}

    async def handle(self, _: Any, __: Connection, event: UserRegistered) -> None:
        if self.failures.get(event.user_id):
            raise self.failures[event.user_id].pop(0)
        self.seen.append(event.user_id)

    def work(self) -> list[Work]:
        handlers: Mapping[type[Event], Handler] = {UserRegistered: self.handle, UserChanged: self.handle}
        return [Work(QUEUE, handlers)]


async def count_inbox(fresh: FreshDatabase) -> int:
    async with fresh.database.connection() as conn:
        count: int = await conn.fetchval("SELECT count(*) FROM inbox")
        return count


async def test_events_of_a_committed_transaction_arrive_once_and_in_order(fresh: FreshDatabase, broker: str) -> None:
    effects = Effects()
    async with running(fresh.database, broker, work=effects.work()):
        async with fresh.database.transaction() as conn:
            await outbox.add_many(conn, [a_user_registered(number) for number in range(1000)])
        await eventually(lambda: len(effects.seen) >= 1000)
    assert effects.seen == list(range(1000))
    assert await count_inbox(fresh) == 1000


async def test_a_message_delivered_ten_times_has_one_effect(fresh: FreshDatabase, broker: str) -> None:
    effects = Effects()
    _, body = an_envelope(6)
    _, last = an_envelope(7)
    async with running(fresh.database, broker, work=effects.work()), publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, body) for _ in range(10)])
        await publisher.publish_one(to_queue(QUEUE.name, last))
        await eventually(lambda: 7 in effects.seen)
    assert effects.seen == [6, 7]


async def test_one_bad_message_does_not_hold_back_or_undo_its_neighbours(fresh: FreshDatabase, broker: str) -> None:
    effects = Effects()
    effects.failures[3] = [Unavailable(), Unavailable()]  # fails with its neighbours, and once more alone
    async with publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, an_envelope(number)[1]) for number in range(6)])
    async with running(fresh.database, broker, work=effects.work()):
        await eventually(lambda: {0, 1, 2, 4, 5} <= set(effects.seen))
        await eventually(lambda: 3 in effects.seen, what="the retry after five seconds")
    assert await count_inbox(fresh) == 6


async def test_what_can_never_work_becomes_a_dead_letter_with_its_reason_and_can_be_redriven(
    fresh: FreshDatabase, broker: str
) -> None:
    effects = Effects()
    effects.failures[6] = [Invalid("no such tier")] * 2
    envelope, body = an_envelope(6)
    async with running(fresh.database, broker, work=effects.work()), publishing(broker) as publisher:
        await publisher.publish_one(to_queue(QUEUE.name, body))
        async with DeadLetters(broker, "invitations") as dead:
            letters = await eventually(lambda: dead.peek(10))
            assert [(letter.id, letter.queue, letter.reason) for letter in letters] == [
                (str(envelope.id), QUEUE.name, "Invalid: no such tier")
            ]
            assert "no such tier" in letters[0].trace
            effects.failures.clear()
            assert await dead.redrive(str(envelope.id)) == 1
            await eventually(lambda: effects.seen == [6])
            assert await dead.peek(10) == []


async def test_a_dropped_dead_letter_is_gone_and_the_others_stay(broker: str) -> None:
    async with publishing(broker) as publisher:
        for body in (an_envelope(1)[1], an_envelope(2)[1]):
            await publisher.publish_one(
                Outgoing(topology.dead_letter_exchange_of("auth"), "auth.events", body, message_id=str(hash(body)))
            )
    async with DeadLetters(broker, "auth") as dead:
        first, second = await dead.peek(10)
        assert await dead.drop(first.id) == 1
        assert [letter.id for letter in await dead.peek(10)] == [second.id]


@pytest.mark.parametrize(
    "body", [b"not json", b'"text"', b"{}", orjson.dumps({"type": "auth.user.registered.v1", "id": "x"})]
)
async def test_a_body_that_is_no_event_is_set_aside_and_the_next_one_is_handled(
    fresh: FreshDatabase, broker: str, body: bytes
) -> None:
    effects = Effects()
    async with running(fresh.database, broker, work=effects.work()), publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, body), to_queue(QUEUE.name, an_envelope(7)[1])])
        await eventually(lambda: effects.seen == [7])
        await eventually(lambda: depth(broker, "invitations.dead"))


async def test_a_conflict_means_that_it_is_done_already(fresh: FreshDatabase, broker: str) -> None:
    effects = Effects()
    effects.failures[6] = [Conflict(), Conflict()]  # with its neighbour, and once more alone
    async with running(fresh.database, broker, work=effects.work()) as running_now, publishing(broker) as publisher:
        await publisher.publish_one(to_queue(QUEUE.name, an_envelope(6)[1]))
        await publisher.publish_one(to_queue(QUEUE.name, an_envelope(7)[1]))
        await eventually(lambda: 7 in effects.seen)
        assert running_now.health.report()[f"consumer {QUEUE.name}"] == "consuming"
    assert effects.seen == [7]
    assert [await depth(broker, name) for name in (QUEUE.name, "invitations.dead", "invitations.retry.5s")] == [0, 0, 0]


async def test_a_message_that_climbed_the_whole_ladder_becomes_a_dead_letter(fresh: FreshDatabase, broker: str) -> None:
    effects = Effects()
    effects.failures[6] = [NotFound()]
    async with running(fresh.database, broker, work=effects.work()), publishing(broker) as publisher:
        await publisher.publish_one(to_queue(QUEUE.name, an_envelope(6)[1], attempt=len(topology.LADDER)))
        await eventually(lambda: depth(broker, "invitations.dead"))
    assert effects.seen == []


async def test_fields_that_this_code_does_not_know_are_ignored(fresh: FreshDatabase, broker: str) -> None:
    effects = Effects()
    raw = orjson.loads(an_envelope(6)[1])
    raw["data"]["invented_later"] = {"deep": [1]}
    raw["extension"] = "new"
    async with running(fresh.database, broker, work=effects.work()), publishing(broker) as publisher:
        await publisher.publish_one(to_queue(QUEUE.name, orjson.dumps(raw)))
        await eventually(lambda: effects.seen == [6])


async def test_stopping_finishes_what_has_begun_and_leaves_the_rest_in_the_queue(
    fresh: FreshDatabase, broker: str
) -> None:
    begun = asyncio.Event()
    seen: list[int] = []

    async def slowly(_: Any, __: Connection, event: UserRegistered) -> None:
        begun.set()
        await asyncio.sleep(0.002)
        seen.append(event.user_id)

    async with publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, an_envelope(number)[1]) for number in range(600)])
    connection = BrokerConnection(broker, purpose="test")
    consumer = Consumer(
        Wiring(
            QUEUE,
            {UserRegistered: slowly, UserChanged: slowly},
            None,
            fresh.database,
            connection,
            Publisher(connection),
            Health(),
        )
    )
    task = asyncio.create_task(consumer.run())
    await begun.wait()
    consumer.stop()
    async with asyncio.timeout(60):
        await task
    await connection.close()
    assert await count_inbox(fresh) == len(seen) > 0
    await eventually(lambda: depth_is(broker, 600 - len(seen)))


async def test_stopping_while_the_database_is_away_counts_no_attempt(fresh: FreshDatabase, broker: str) -> None:
    begun = asyncio.Event()

    async def away(_context: Any, _conn: Connection, _event: UserRegistered) -> None:
        begun.set()
        fresh.database.ping = gone  # type: ignore[method-assign]  # and stays away
        raise DatabaseUnavailable

    async def gone() -> None:
        raise DatabaseUnavailable

    async with publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, an_envelope(number)[1]) for number in range(3)])
    connection = BrokerConnection(broker, purpose="test")
    health = Health()
    handlers = dict.fromkeys(QUEUE.binds, away)
    wiring = Wiring(QUEUE, handlers, None, fresh.database, connection, Publisher(connection), health)
    consumer = Consumer(wiring)
    task = asyncio.create_task(consumer.run())
    await begun.wait()
    await eventually(lambda: "waiting for the database" in health.report()[wiring.part])
    consumer.stop()
    async with asyncio.timeout(60):
        await task
    await connection.close()
    await eventually(lambda: depth_is(broker, 3))
    assert await depth(broker, "invitations.retry.5s") == 0


async def test_who_can_not_work_takes_no_message(broker: str) -> None:
    """Without a database, or with one that lacks a migration of this code, the others of the service do the work."""
    away = Database("postgresql://nobody:none@127.0.0.1:1/none", schema="invitations")
    async with publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, an_envelope(number)[1]) for number in range(3)])
    connection = BrokerConnection(broker, purpose="test")
    health = Health()
    handlers = Effects().work()[0].handlers
    consumer = Consumer(Wiring(QUEUE, handlers, None, away, connection, Publisher(connection), health))
    task = asyncio.create_task(consumer.run())
    await eventually(lambda: "not consuming: The database is not available" in str(health.report()))
    assert not health.is_ready
    assert await depth(broker, QUEUE.name) == 3
    consumer.stop()
    async with asyncio.timeout(60):
        await task
    await connection.close()


class TakesNothing(Publisher):
    """Stands for a retry rung or dead letters that are full or not there."""

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | Interrupted | None]:
        return [Refused("no queue takes it") for _ in messages]


async def test_while_the_broker_takes_no_copies_the_neighbours_of_a_failed_message_are_handled(
    fresh: FreshDatabase, broker: str
) -> None:
    effects = Effects()
    effects.failures[0] = [NotFound() for _ in range(50)]
    async with publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, b"not json"), to_queue(QUEUE.name, an_envelope(0)[1])])
        await publisher.publish([to_queue(QUEUE.name, an_envelope(number)[1]) for number in range(1, 6)])
    connection = BrokerConnection(broker, purpose="test")
    consumer = Consumer(
        Wiring(
            QUEUE,
            effects.work()[0].handlers,
            None,
            fresh.database,
            connection,
            TakesNothing(connection),
            Health(),
        )
    )
    task = asyncio.create_task(consumer.run())
    await eventually(lambda: effects.seen == [1, 2, 3, 4, 5])
    consumer.stop()
    async with asyncio.timeout(60):
        await task
    await connection.close()
    await eventually(lambda: depth_is(broker, 2))


async def test_work_outside_transactions_is_acknowledged_when_it_returns_and_retried_when_it_fails(
    fresh: FreshDatabase, broker: str
) -> None:
    calls: list[int] = []

    @outside
    async def call_out(_: Any, event: UserRegistered) -> None:
        calls.append(event.user_id)
        if calls.count(event.user_id) == 1 and event.user_id == 1:
            raise Unavailable

    handlers: Mapping[type[Event], Handler] = {UserRegistered: call_out, UserChanged: call_out}
    async with running(fresh.database, broker, work=[Work(QUEUE, handlers)]), publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, an_envelope(number)[1]) for number in (1, 2)])
        await eventually(lambda: sorted(calls) == [1, 1, 2])
    assert await depth(broker, QUEUE.name) == 0


async def test_a_batch_handler_gets_what_waits_together_and_each_event_once(fresh: FreshDatabase, broker: str) -> None:
    sizes: list[int] = []

    @batch
    async def together(_: Any, __: Connection, deliveries: list[Delivery]) -> None:
        sizes.append(len(deliveries))

    bodies = [an_envelope(number)[1] for number in range(150)]
    async with publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, body) for body in [*bodies, *bodies]])
    handlers: Mapping[type[Event], Handler] = {UserRegistered: together, UserChanged: together}
    async with running(fresh.database, broker, work=[Work(QUEUE, handlers)]):
        await eventually(lambda: sum(sizes) >= 150)
        await eventually(lambda: depth_is(broker, 0))
    assert sum(sizes) == 150
    assert max(sizes) > 10


async def depth_is(broker: str, count: int) -> bool:
    return await depth(broker, QUEUE.name) == count


def test_a_consumer_without_a_handler_for_each_event_of_its_queue_does_not_start() -> None:
    wiring = Wiring(QUEUE, {UserRegistered: Effects().handle}, None, None, None, None, Health())  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="UserChanged"):
        Consumer(wiring)


async def test_a_handler_that_misses_a_table_does_not_hold_up_its_queue_for_ever(
    fresh: FreshDatabase, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.consumer._OUTAGES", 2)
    seen: list[int] = []

    async def handle(_: Any, conn: Connection, event: UserRegistered) -> None:
        if event.user_id == 1:
            await conn.execute("SELECT FROM no_such_table")
        seen.append(event.user_id)

    async with publishing(broker) as publisher:
        await publisher.publish([to_queue(QUEUE.name, an_envelope(number)[1]) for number in (1, 2)])
    handlers: Mapping[type[Event], Handler] = {UserRegistered: handle, UserChanged: handle}
    async with running(fresh.database, broker, work=[Work(QUEUE, handlers)]):
        await eventually(lambda: seen == [2])
        await eventually(lambda: is_on_the_ladder(broker))


async def is_on_the_ladder(broker: str) -> bool:
    # Whoever looks late finds it a rung higher.
    return any([await depth(broker, f"invitations.retry.{rung}") for rung in ("5s", "30s")])
