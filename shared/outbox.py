"""The outbox: an event is decided in the transaction of the change and published later, at least once, in order.

`add` writes a row. One relay per service (the holder of a session advisory lock; the others stand by) numbers the
rows, publishes them in batches with overlapped confirms and deletes what the broker confirmed. It keeps no position in
memory: a row that is there has not been published (docs/messaging.md M3.1).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import asyncpg
from prometheus_client import Counter, Gauge, Histogram

from shared import topology
from shared.backoff import Backoff
from shared.bus.connection import BrokerUnavailable
from shared.bus.publisher import NotPermitted, Outcome, Outgoing, Publisher, Refused
from shared.db import Connection, Database, Row, meaning_of_errors
from shared.errors import Unavailable
from shared.events.envelope import Event, encode, with_sequence
from shared.health import Health

log = logging.getLogger(__name__)

_BATCH: Final = 500
# Far below what RabbitMQ takes (16 MiB from version 4 on): events carry ids and facts, files stay in the database.
_LARGEST_BYTES: Final = 1 << 20
_POLL_SECONDS: Final = 0.1
_STANDBY_SECONDS: Final = 1.0
# No longer than this: what is added meanwhile waits as well.
_UNCONFIRMED_SECONDS: Final = 1.0
_HOLD_SECONDS: Final = 5
# Rights don't come back by themselves, and each try costs the channel.
_NOT_PERMITTED_HOLD_SECONDS: Final = 60
_MEASURE_SECONDS: Final = 5.0
# Readiness turns red when the oldest event has waited for so long.
_LAG_LIMIT_SECONDS: Final = 60.0

PUBLISHED = Counter("outbox_published_total", "Events that the broker confirmed", ["service"])
REFUSED = Counter(
    "outbox_refused_total", "Events that the broker did not take and that wait for another try", ["service"]
)
CONFIRM_SECONDS = Histogram(
    "outbox_confirm_seconds", "From the first publish of a batch to its last confirm", ["service"]
)
OLDEST_SECONDS = Gauge("outbox_oldest_seconds", "Age of the oldest event that waits", ["service"])
DEPTH = Gauge("outbox_depth", "Events that wait (counted up to 100,000)", ["service"])


class EventTooLarge(Exception):
    """An event of this size would block the outbox: the broker refuses it whenever it is offered."""


async def add(conn: Connection, event: Event) -> UUID:
    """Decide an event in the caller's transaction; gives its id."""
    event_id, envelope = _encoded(event)
    await conn.execute(
        "INSERT INTO outbox (event_id, routing_key, envelope) VALUES ($1, $2, $3)",
        event_id,
        event.routing_key,
        envelope,
    )
    return event_id


async def add_many(conn: Connection, events: Iterable[Event]) -> None:
    """Decide many events in one statement, in the order given."""
    rows = [(*_encoded(event), event.routing_key) for event in events]
    await conn.execute(
        """INSERT INTO outbox (event_id, envelope, routing_key)
           SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::text[])""",
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
    )


def _encoded(event: Event) -> tuple[UUID, bytes]:
    event_id, envelope = encode(event)
    if len(envelope) > _LARGEST_BYTES:
        raise EventTooLarge(f"{event.routing_key} has {len(envelope)} bytes, {_LARGEST_BYTES} are the most")
    return event_id, envelope


class Relay:
    """Publishes what waits in one service's outbox."""

    def __init__(self, database: Database, publisher: Publisher, health: Health) -> None:
        self._database = database
        self._publisher = publisher
        self._health = health
        self._service = database.schema
        self._is_late = False

    async def run(self) -> None:
        """Lead or stand by, until cancelled; whatever goes wrong, start again from the table."""
        backoff = Backoff()
        while True:
            try:
                await self._lead_or_stand_by()
            except Unavailable as error:
                self._health.fail("relay", error.message)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._health.fail("relay", f"database: {error}")
            except Exception:
                log.exception("the relay failed and starts again")
                self._health.fail("relay", "failed, starts again")
            await asyncio.sleep(backoff.seconds())

    async def _lead_or_stand_by(self) -> None:
        await self._database.ping()
        conn = await self._database.dedicated()
        try:
            # The lock lives and dies with this connection; numbering runs on it too, so that a relay that lost
            # its lock can't number rows beside its successor.
            while not await conn.fetchval(
                "SELECT pg_try_advisory_lock(hashtextextended('outbox ' || current_schema(), 0))"
            ):
                self._health.ok("relay", "standing by")
                await asyncio.sleep(_STANDBY_SECONDS)
            await self._lead(conn)
        finally:
            await _close(conn)

    async def _lead(self, conn: asyncpg.Connection[asyncpg.Record]) -> None:
        measured = 0.0
        backoff = Backoff()
        while True:
            with meaning_of_errors(conn):
                if time.monotonic() - measured > _MEASURE_SECONDS:
                    measured = time.monotonic()
                    await self._measure(conn)
                try:
                    taken, confirmed = await self.publish_batch(conn)
                except BrokerUnavailable as error:
                    self._health.fail("relay", error.message)
                    await asyncio.sleep(backoff.seconds())
                    continue
            if taken == confirmed and not self._is_late:
                self._health.ok("relay", "leading")
            if taken == 0:
                await asyncio.sleep(_POLL_SECONDS)
            elif confirmed == 0:
                await asyncio.sleep(_UNCONFIRMED_SECONDS)

    async def publish_batch(self, conn: Connection) -> tuple[int, int]:
        """Publish the oldest events; gives how many were tried and how many the broker confirmed."""
        rows = await conn.fetch(_NUMBER_AND_TAKE, _BATCH)
        if not rows:
            return 0, 0
        rows.sort(key=lambda row: row["id"])
        started = time.perf_counter()
        outcomes = await self._publisher.publish(
            [
                Outgoing(
                    exchange=topology.EVENTS,
                    routing_key=row["routing_key"],
                    body=with_sequence(row["envelope"], row["sequence"]),
                    message_id=str(row["event_id"]),
                    mandatory=topology.is_consumed(row["routing_key"]),
                )
                for row in rows
            ]
        )
        CONFIRM_SECONDS.labels(self._service).observe(time.perf_counter() - started)
        confirmed = [row["id"] for row, problem in zip(rows, outcomes, strict=True) if problem is None]
        if confirmed:
            await conn.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", confirmed)
            PUBLISHED.labels(self._service).inc(len(confirmed))
        if len(confirmed) < len(rows):
            self._report(rows, outcomes)
            await self._hold(conn, rows, outcomes)
        return len(rows), len(confirmed)

    def _report(self, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> None:
        """Say in one line per type of event and reason why events stay in the outbox."""
        problems: dict[tuple[str, type[Exception]], list[Exception]] = {}
        for row, problem in zip(rows, outcomes, strict=True):
            if problem is not None:
                problems.setdefault((row["routing_key"], type(problem)), []).append(problem)
        for (routing_key, _), found in problems.items():
            REFUSED.labels(self._service).inc(len(found))
            log.warning("%d events %s were not confirmed and stay in the outbox: %s", len(found), routing_key, found[0])

    async def _hold(self, conn: Connection, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> None:
        """Let what the broker refused wait a little, so that it does not block what is behind it."""
        refused = [
            (row["id"], _NOT_PERMITTED_HOLD_SECONDS if isinstance(problem, NotPermitted) else _HOLD_SECONDS)
            for row, problem in zip(rows, outcomes, strict=True)
            if isinstance(problem, Refused)
        ]
        await conn.execute(
            """UPDATE outbox SET failures = failures + 1, held_until = now() + make_interval(secs => hold.seconds)
               FROM unnest($1::bigint[], $2::integer[]) AS hold (id, seconds) WHERE outbox.id = hold.id""",
            [row_id for row_id, _ in refused],
            [seconds for _, seconds in refused],
        )

    async def _measure(self, conn: Connection) -> None:
        age = await conn.fetchval(
            "SELECT extract(epoch FROM now() - created_at)::float8 FROM outbox ORDER BY id LIMIT 1"
        )
        depth = await conn.fetchval("SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT 100000) AS waiting")
        OLDEST_SECONDS.labels(self._service).set(age or 0.0)
        DEPTH.labels(self._service).set(depth)
        self._is_late = age is not None and age > _LAG_LIMIT_SECONDS
        if self._is_late:
            self._health.fail("relay", f"the oldest of {depth} events has waited for {age:.0f} s")


# One statement: rows without a number get the next ones of their type (written before they are published, so that a
# crash can't give one number to two events), and the oldest rows that are not held come back.
_NUMBER_AND_TAKE: Final = """
WITH fresh AS (
    SELECT id, routing_key, row_number() OVER (PARTITION BY routing_key ORDER BY id) AS nth
    FROM (SELECT id, routing_key FROM outbox WHERE sequence IS NULL ORDER BY id LIMIT $1) AS unnumbered
), heads AS (
    INSERT INTO outbox_sequences AS head (routing_key, last)
    SELECT routing_key, max(nth) FROM fresh GROUP BY routing_key
    ON CONFLICT ON CONSTRAINT outbox_sequences_pkey DO UPDATE SET last = head.last + excluded.last
    RETURNING routing_key, last
), sizes AS (
    SELECT routing_key, max(nth) AS size FROM fresh GROUP BY routing_key
), numbered AS (
    UPDATE outbox SET sequence = heads.last - sizes.size + fresh.nth
    FROM fresh JOIN heads USING (routing_key) JOIN sizes USING (routing_key)
    WHERE outbox.id = fresh.id
    RETURNING outbox.id, outbox.event_id, outbox.routing_key, outbox.envelope, outbox.sequence
), waiting AS (
    SELECT id, event_id, routing_key, envelope, sequence FROM outbox
    WHERE sequence IS NOT NULL AND (held_until IS NULL OR held_until <= now())
    ORDER BY id LIMIT $1
)
SELECT * FROM waiting UNION ALL SELECT * FROM numbered
"""


async def _close(conn: asyncpg.Connection[asyncpg.Record]) -> None:
    try:
        await conn.close(timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        conn.terminate()
