"""Decides events at an even rate, publishes them as a service does, and watches how soon each can be found."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from bisect import bisect_left
from typing import Any

import asyncpg
import orjson
import uvloop

from shared import outbox
from shared.bus.connection import BrokerConnection
from shared.bus.publisher import Publisher
from shared.db import Database
from shared.events import AuthAudit
from shared.events.audit import Actor
from shared.health import Health

TICKS = 20
GLANCE_SECONDS = 0.01
PATIENCE_SECONDS = 120.0


def event(number: int) -> AuthAudit:
    """Make one event."""
    return AuthAudit(
        action="auth.sign_in",
        actor=Actor(kind="user", id=number % 500, roles=["Sponsor"]),
        request_id=f"request-{number}",
        personal={"ip": "192.0.2.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64)"},
        details={"second_factor": False},
    )


class Watcher:
    """Sees which place of the log can be found at which time."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.places: list[int] = [0]
        self.times: list[float] = [0.0]
        self._news = asyncio.Event()

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            place = await self._conn.fetchval("SELECT seq FROM records ORDER BY seq DESC LIMIT 1") or 0
            if place > self.places[-1]:
                self.places.append(place)
                self.times.append(time.time())
                self._news.set()
            await asyncio.sleep(GLANCE_SECONDS)

    async def until(self, place: int) -> None:
        """Wait until a place can be found."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.places[-1] < place:
                self._news.clear()
                await self._news.wait()

    def lag(self, place: int, occurred_at: float) -> float:
        """Say how long after an event its record could be found."""
        return self.times[bisect_left(self.places, place)] - occurred_at


async def produce(database: Database, rate: int, seconds: int) -> None:
    """Decide events at an even rate."""
    started = time.monotonic()
    for tick in range(seconds * TICKS):
        await asyncio.sleep(max(0.0, started + tick / TICKS - time.monotonic()))
        async with database.transaction() as conn:
            await outbox.add_many(conn, [event(tick * rate // TICKS + number) for number in range(rate // TICKS)])


async def main(rate: int, seconds: int) -> None:
    """Measure, and print the figures."""
    url = os.environ["BENCH_POSTGRES_URL"]
    database = Database(url, schema="audit")
    publisher = Publisher(BrokerConnection(os.environ["BENCH_AMQP_URL"], purpose="bench publish"))
    conn = await asyncpg.connect(url, server_settings={"search_path": "audit"})
    watcher = Watcher(conn)
    background = [
        asyncio.create_task(outbox.Relay(database, publisher, Health()).run()),
        asyncio.create_task(watcher.watch()),
    ]
    async with database.transaction() as warming:
        await outbox.add(warming, event(0))
    await watcher.until(1)
    await produce(database, rate, seconds)
    await watcher.until(1 + rate * seconds)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    rows = await conn.fetch("SELECT seq, extract(epoch FROM occurred_at)::float8 AS at FROM records WHERE seq > 1")
    lags = sorted(watcher.lag(row["seq"], row["at"]) for row in rows)
    await conn.close()
    await database.close()
    print(orjson.dumps({"median": lags[len(lags) // 2], "p99": lags[len(lags) * 99 // 100]}).decode())


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
