"""bus-in: how fast messages are consumed, each with an inbox row and an effect in Postgres, each exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aio_pika

from benchmarks import material
from benchmarks.arena import Arena, in_loop
from benchmarks.contest import Aim, Row

OURS = "our consumer, handler per message"
OURS_BATCH = "our consumer, batch handler"
FASTSTREAM = "FastStream"
CELERY = "Celery"
FASTSTREAM_QUEUE = "bench.faststream"
CELERY_QUEUE = "bench.celery"
REPEATED_EVERY = 50  # One message in fifty is delivered twice.
CHUNK = 500
PATIENCE_SECONDS = 300.0
PERSISTENT = aio_pika.DeliveryMode.PERSISTENT


def row(arena: Arena, *, size: int) -> Row:
    """Consume `size` different messages, some of them twice."""

    def contender(queue: str, *command: str, fill: Callable[[], None]) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            arena.clear()
            if queue != material.QUEUE:
                arena.fresh_queue(queue)
            fill()
            with arena.running(*command):
                _wait_until_done(arena, queue, size)
            return {"rate": _rate(arena, size)}

        return measure

    def fill(queue: str) -> Callable[[], None]:
        return lambda: in_loop(_publish(arena, queue, size))

    def fill_celery() -> None:
        arena.run("celery_filler", str(size), str(REPEATED_EVERY))

    return Row(
        name="bus-in",
        title=f"{size:,} messages of about 1 KB, one in {REPEATED_EVERY} delivered twice: consume + inbox + effect",
        contenders={
            OURS: contender(material.QUEUE, "consumer", "each", fill=fill(material.QUEUE)),
            OURS_BATCH: contender(material.QUEUE, "consumer", "batch", fill=fill(material.QUEUE)),
            FASTSTREAM: contender(FASTSTREAM_QUEUE, "faststream_app", fill=fill(FASTSTREAM_QUEUE)),
            CELERY: contender(CELERY_QUEUE, "celery_app", fill=fill_celery),
        },
        units={"rate": "messages/s"},
        aims=[Aim(FASTSTREAM, "rate", 3.0), Aim(CELERY, "rate", 3.0)],
        terms=[
            "all: quorum queue filled before, prefetch 200, acknowledged after the commit, fsync on, same two tables",
            "all: INSERT into inbox ON CONFLICT DO NOTHING; the effect only if that is new; both in one transaction",
            "ours: one process on uvloop; deliveries that wait together share a transaction, as in production",
            "FastStream: one process on uvloop, asyncpg pool of 10, a transaction per message, NACK_ON_ERROR",
            "Celery: prefork with 10 processes, psycopg, acks_late, results ignored, a transaction per message",
            "the clock runs from the first effect to the last, so the start of a process does not count",
        ],
    )


async def _publish(arena: Arena, queue: str, size: int) -> None:
    connection = await aio_pika.connect(arena.amqp_url)
    async with connection:
        channel = await connection.channel()
        waiting = [
            aio_pika.Message(body, content_type="application/json", delivery_mode=PERSISTENT, message_id=event_id)
            for number, (event_id, body) in enumerate(material.bodies(size), start=1)
            for _ in range(1 if number % REPEATED_EVERY else 2)
        ]
        for start in range(0, len(waiting), CHUNK):
            some = waiting[start : start + CHUNK]
            await asyncio.gather(*(channel.default_exchange.publish(message, queue) for message in some))


def _wait_until_done(arena: Arena, queue: str, size: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while arena.value("SELECT count(*) FROM effects") < size:
        assert time.monotonic() < deadline, f"{queue} was not consumed in time"
        time.sleep(0.2)


def _rate(arena: Arena, size: int) -> float:
    assert arena.value("SELECT count(*) FROM effects") == size, "an effect was doubled"
    assert arena.value("SELECT count(DISTINCT user_id) FROM effects") == size
    assert arena.value("SELECT count(*) FROM inbox") == size
    seconds = arena.value("SELECT extract(epoch FROM max(at) - min(at))::float8 FROM effects")
    return size / float(seconds)
