"""audit: how fast events are sealed into the hash chain, end to end from the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg

from benchmarks.arena import Arena, in_loop
from benchmarks.contest import Aim, Limit, Row
from services.audit.__main__ import MIGRATIONS
from shared import topology
from shared.events import AuthAudit
from shared.events.audit import Actor, Target
from shared.events.envelope import encode, with_sequence
from shared.migrate import migrate

OURS = "our sealer, in batches"
ONE_BY_ONE = "a transaction per event"
PATIENCE_SECONDS = 300.0
_TABLES = "records, seen_events, personal_keys, inbox, outbox, outbox_sequences"


def row(arena: Arena, *, size: int) -> Row:
    """Seal `size` events, every column, index, sealed personal data and log line included."""
    in_loop(migrate(arena.postgres_url, arena.postgres_url, "audit", Path(MIGRATIONS)))

    def contender(style: str) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            arena.clear()
            in_loop(_in_schema(arena, _empty))
            in_loop(_publish(arena, size))
            with arena.running("audit_sealer", style):
                _wait_until_done(arena, size)
            return {"rate": in_loop(_in_schema(arena, lambda conn: _rate(conn, size)))}

        return measure

    return Row(
        name="audit",
        title=f"{size:,} audit events from a quorum queue into the chain",
        contenders={OURS: contender("batch"), ONE_BY_ONE: contender("single")},
        units={"rate": "events/s"},
        aims=[Aim(ONE_BY_ONE, "rate", 5.0)],
        terms=[
            "both: queue filled before, acked after the commit, fsync on, uvloop, same code per record",
            "both: inbox, head row locked, SHA-256 chain over canonical JSON, 8 search indexes, personal data sealed",
            "the other: eight writers at once, each event in a transaction of its own that locks the head of the chain",
            "the clock runs from the first record to the last, so the start of a process does not count",
        ],
    )


def lag_row(arena: Arena, *, rate: int, seconds: int) -> Row:
    """Tell how soon an event can be found while `rate` of them happen every second."""
    in_loop(migrate(arena.postgres_url, arena.postgres_url, "audit", Path(MIGRATIONS)))

    def contender(style: str) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            arena.clear()
            in_loop(_in_schema(arena, _empty))
            with arena.running("audit_sealer", style):
                return arena.run("audit_lag", str(rate), str(seconds))

        return measure

    return Row(
        name="audit-lag",
        title=f"from the event to its record that a reader finds, {rate} events a second for {seconds} s",
        contenders={OURS: contender("batch"), ONE_BY_ONE: contender("single")},
        units={"median": "s, median", "p99": "s, 99 of 100"},
        aims=[Aim(ONE_BY_ONE, "p99", 1.0)],
        limits=[Limit("p99", 1.0)],
        terms=[
            "both: decided in an outbox, published by our relay, a quorum queue, sealed and committed; fsync on",
            "found: the record shows in another connection, which looks every 10 ms",
            "the other: eight writers at once, each event in a transaction of its own that locks the head of the chain",
        ],
        less_is_better=True,
    )


async def _in_schema(arena: Arena, work: Callable[[Any], Any]) -> Any:
    conn = await asyncpg.connect(arena.postgres_url, server_settings={"search_path": "audit"})
    try:
        return await work(conn)
    finally:
        await conn.close()


async def _empty(conn: Any) -> None:
    await conn.execute("SET session_replication_role = replica")  # the log refuses to be emptied otherwise
    await conn.execute(f"TRUNCATE {_TABLES}")
    await conn.execute("UPDATE chain_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')")
    await conn.execute("CHECKPOINT")


async def _publish(arena: Arena, size: int) -> None:
    connection = await aio_pika.connect(arena.amqp_url)
    async with connection:
        exchange = await (await connection.channel()).get_exchange(topology.EVENTS)
        for first in range(1, size + 1, 500):
            numbers = range(first, min(first + 500, size + 1))
            await asyncio.gather(*[_publish_one(exchange, number) for number in numbers])


async def _publish_one(exchange: aio_pika.abc.AbstractExchange, number: int) -> None:
    event = AuthAudit(
        action="auth.sign_in",
        actor=Actor(kind="user", id=number % 500, roles=["Sponsor"]),
        target=Target(kind="user", id=str(number % 500)),
        request_id=f"request-{number}",
        request_path="/api/v1/auth/login",
        personal={
            "ip": "192.0.2.7",
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
            "email": f"u{number}@example.com",
        },
        details={"factor": "password", "session": number},
    )
    _, body = encode(event)
    message = aio_pika.Message(with_sequence(body, number), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await exchange.publish(message, AuthAudit.routing_key)


def _wait_until_done(arena: Arena, size: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while in_loop(_in_schema(arena, lambda conn: conn.fetchval("SELECT seq FROM chain_head"))) < size:
        assert time.monotonic() < deadline, "the events were not sealed in time"
        time.sleep(0.2)


async def _rate(conn: Any, size: int) -> float:
    assert await conn.fetchval("SELECT count(DISTINCT event_id) FROM records") == size
    assert await conn.fetchval("SELECT count(*) FROM personal_keys") == size
    # The first batch ended when the clock began: it does not count.
    counted, seconds = await conn.fetchrow(
        """WITH ends AS (SELECT min(recorded_at) AS first, max(recorded_at) AS last FROM records)
           SELECT count(*) FILTER (WHERE recorded_at > first), extract(epoch FROM max(last) - min(first))::float8
           FROM records, ends"""
    )
    return float(counted) / float(seconds)
