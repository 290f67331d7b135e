"""Emptying the queues of a broker of our own, between tests and between rows of a benchmark."""

from __future__ import annotations

import aio_pika

from shared.topology import topology


async def purge(amqp_url: str) -> None:
    """Empty every quorum queue of the topology."""
    connection = await aio_pika.connect(amqp_url, timeout=60)
    async with connection:
        channel = await connection.channel()
        for queue in topology().queues:
            if queue.arguments.get("x-queue-type") == "quorum":
                declared = await channel.declare_queue(queue.name, passive=True)
                await declared.purge()
