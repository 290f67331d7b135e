"""Ours, out: the relay of shared.outbox, until everything that waits is confirmed and deleted."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import orjson
import uvloop

from benchmarks.arena import SCHEMA
from shared.bus.connection import BrokerConnection
from shared.bus.publisher import Publisher
from shared.db import Database
from shared.health import Health
from shared.outbox import PUBLISHED, Relay

LOOK_SECONDS = 0.005


async def main(size: int) -> dict[str, float]:
    """Run the relay over `size` waiting events."""
    database = Database(os.environ["BENCH_POSTGRES_URL"], schema=SCHEMA)
    connection = BrokerConnection(os.environ["BENCH_AMQP_URL"], purpose="bench")
    published = PUBLISHED.labels(SCHEMA)
    started = time.perf_counter()
    relay = asyncio.create_task(Relay(database, Publisher(connection), Health()).run())
    # The metric's own counter is the relay's word for "confirmed and deleted".
    while published._value.get() < size:  # noqa: SLF001, ASYNC110
        await asyncio.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - started
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)
    await connection.close()
    await database.close()
    return {"rate": size / seconds}


if __name__ == "__main__":
    print(orjson.dumps(uvloop.run(main(int(sys.argv[1])))).decode())
