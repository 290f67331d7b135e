"""Emptying the queues of a broker of our own, between tests and between rows of a benchmark."""

from __future__ import annotations

import aio_pika
from aiormq.abc import AbstractChannel

from shared.topology import topology


async def purge(amqp_url: str) -> None:
    """Empty every quorum queue of the topology."""
    names = [queue.name for queue in topology().queues if queue.arguments.get("x-queue-type") == "quorum"]
    connection = await aio_pika.connect(amqp_url, timeout=60)
    async with connection:
        channel = await (await connection.channel()).get_underlay_channel()
        await _purge(channel, names)
        # What a consumer had in hand when its connection ended goes back a moment later than that. Whoever goes on
        # publishing is not waited for.
        for _ in range(10):
            if not await _purge(channel, names):
                break


async def _purge(channel: AbstractChannel, names: list[str]) -> int:
    return sum([(await channel.queue_purge(name)).message_count or 0 for name in names])
