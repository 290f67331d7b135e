"""bus-out: how fast what waits in the outbox is published and confirmed."""

from __future__ import annotations

from benchmarks import material
from benchmarks.arena import SCHEMA, Arena, in_loop
from benchmarks.contest import Aim, Row
from shared import outbox
from shared.db import Database

OURS = "outbox relay"
RAW = "raw aio-pika, gathered confirms"
CHUNK = 1_000


def row(arena: Arena, *, size: int) -> Row:
    """Publish `size` events from a filled outbox, against the same bodies from memory."""

    def ours() -> dict[str, float]:
        arena.clear()
        in_loop(_fill(arena, size))
        figures = arena.run("relay", str(size))
        assert arena.value("SELECT count(*) FROM outbox") == 0
        assert arena.depth(material.QUEUE) == size
        return figures

    def raw() -> dict[str, float]:
        arena.clear()
        figures = arena.run("raw_publisher", str(size))
        assert arena.depth(material.QUEUE) == size
        return figures

    return Row(
        name="bus-out",
        title=f"{size:,} events of about 1 KB: outbox → relay → confirmed",
        contenders={OURS: ours, RAW: raw},
        units={"rate": "messages/s"},
        aims=[Aim(RAW, "rate", 0.8)],
        terms=[
            "both: one process on uvloop, exchange `events`, persistent, mandatory, confirmed, into one quorum queue",
            "relay: reads from Postgres (fsync on), numbers, publishes 500 at a time, deletes what was confirmed",
            "raw: bodies ready in memory, no database; asyncio.gather over exchange.publish, 500 at a time",
            "the clock runs from before the connections are opened to the last confirm (relay: the last delete)",
        ],
    )


async def _fill(arena: Arena, size: int) -> None:
    database = Database(arena.postgres_url, schema=SCHEMA)
    for start in range(1, size + 1, CHUNK):
        async with database.transaction() as conn:
            await outbox.add_many(
                conn, [material.event(number) for number in range(start, min(start + CHUNK, size + 1))]
            )
    await database.close()
