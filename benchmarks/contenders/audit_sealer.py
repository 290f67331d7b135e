"""Seals from the queue until it is ended: `batch` as the worker does, `single` with a transaction per event."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage
from pydantic import SecretStr

from services.audit.consumers import HANDLERS
from services.audit.context import AuditContext, open_context
from services.audit.settings import AuditSettings
from shared import topology
from shared.bus.connection import BrokerConnection
from shared.bus.consumer import Consumer, Wiring
from shared.bus.handling import Delivery, handle_together
from shared.bus.publisher import Publisher
from shared.events import decode
from shared.health import Health

WRITERS = 8
QUEUE = topology.AUDIT_EVENTS[0]


async def in_batches(context: AuditContext, amqp_url: str) -> None:
    """Seal as the worker does."""
    publisher = Publisher(BrokerConnection(amqp_url, purpose="bench publish"))
    consuming = BrokerConnection(amqp_url, purpose="bench consume")
    wiring = Wiring(QUEUE, HANDLERS, context, context.database, consuming, publisher, Health())
    await Consumer(wiring).run()


async def one_by_one(context: AuditContext, amqp_url: str) -> None:
    """Seal each event in a transaction of its own, eight at a time."""
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=QUEUE.prefetch)
    queue = await channel.get_queue(QUEUE.name)
    writers = asyncio.Semaphore(WRITERS)

    async def seal(message: AbstractIncomingMessage) -> None:
        async with writers:
            delivery = Delivery(decode(message.body), message.body, message.delivery_tag or 0, 0, {})
            await handle_together(context.database, context, queue.name, HANDLERS, [delivery])
            await message.ack()

    await queue.consume(seal)
    await asyncio.Event().wait()


async def main(style: str) -> None:
    """Run until ended."""
    logging.basicConfig(level=logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        settings = AuditSettings(
            database_url=SecretStr(os.environ["BENCH_POSTGRES_URL"]),
            amqp_url=SecretStr(os.environ["BENCH_AMQP_URL"]),
            secret_keys=SecretStr(base64.b64encode(os.urandom(32)).decode()),
            signing_key_file=Path(folder) / "key.pem",
            checkpoint_dir=Path(folder),
        )
        async with open_context(settings) as context:
            work: Any = in_batches if style == "batch" else one_by_one
            await work(context, settings.amqp_url.get_secret_value())


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
