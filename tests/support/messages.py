"""Looking into queues, and putting messages straight into them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika

from shared import topology
from shared.bus.connection import BrokerConnection
from shared.bus.publisher import Outgoing, Publisher


@asynccontextmanager
async def publishing(amqp_url: str) -> AsyncIterator[Publisher]:
    """Open a publisher of the test's own."""
    connection = BrokerConnection(amqp_url, purpose="test")
    publisher = Publisher(connection)
    try:
        yield publisher
    finally:
        await publisher.close()
        await connection.close()


def to_queue(queue: str, body: bytes, **headers: Any) -> Outgoing:
    """Address a message to one queue alone."""
    return Outgoing(
        exchange=topology.return_exchange_of(queue.partition(".")[0]),
        routing_key=f"now.{queue}",
        body=body,
        message_id=uuid.uuid4().hex,
        headers=headers,
    )


async def depth(amqp_url: str, queue: str) -> int:
    """Count the messages that are ready in a queue."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def nobody_consumes(amqp_url: str) -> bool:
    """Say whether all consumers are gone, and what they held is back in its queue (of the topology)."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        found = [await channel.declare_queue(queue.name, passive=True) for queue in topology.topology().queues]
        return not any(queue.declaration_result.consumer_count for queue in found)


async def drain(amqp_url: str, queue: str) -> list[bytes]:
    """Take everything out of a queue, in order."""
    connection = await aio_pika.connect(amqp_url)
    bodies = []
    async with connection:
        channel = await connection.channel()
        source = await channel.declare_queue(queue, passive=True)
        while (message := await source.get(no_ack=True, fail=False)) is not None:
            bodies.append(message.body)
    return bodies
