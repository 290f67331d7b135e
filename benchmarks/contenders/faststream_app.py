"""FastStream, in: as its documentation shows it, with the inbox that it does not have written by hand."""

from __future__ import annotations

import os
from typing import Any
from uuid import UUID

import asyncpg
import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from pydantic import BaseModel

from benchmarks import material
from benchmarks.arena import SCHEMA
from benchmarks.bus_in import FASTSTREAM_QUEUE
from shared.events import UserRegistered

broker = RabbitBroker(os.environ["BENCH_AMQP_URL"], default_channel=Channel(prefetch_count=material.PREFETCH))
app = FastStream(broker)
pools: list[asyncpg.Pool[asyncpg.Record]] = []


class Message(BaseModel):
    """The parts of an envelope that the effect needs."""

    id: UUID
    data: UserRegistered


async def open_pool() -> None:
    """Open the pool before the first message."""
    settings = {"search_path": SCHEMA}
    pools.append(await asyncpg.create_pool(os.environ["BENCH_POSTGRES_URL"], max_size=10, server_settings=settings))


async def keep(message: Message) -> None:
    """Leave the effect of one message, once."""
    event = message.data
    async with pools[0].acquire() as conn, conn.transaction():
        new: Any = await conn.fetchval(
            "INSERT INTO inbox (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1",
            FASTSTREAM_QUEUE,
            message.id,
        )
        if new:
            await conn.execute(
                "INSERT INTO effects (user_id, email, full_name) VALUES ($1, $2, $3)",
                event.user_id,
                event.email,
                event.full_name,
            )


app.on_startup(open_pool)
queue = RabbitQueue(FASTSTREAM_QUEUE, queue_type=QueueType.QUORUM)
broker.subscriber(queue, ack_policy=AckPolicy.NACK_ON_ERROR)(keep)

if __name__ == "__main__":
    uvloop.run(app.run())
