"""Relay and consumers of a service, running in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from shared.bus.connection import BrokerConnection
from shared.bus.consumer import Consumer, Wiring
from shared.bus.publisher import Publisher
from shared.db import Database
from shared.health import Health
from shared.outbox import Relay
from shared.worker import Work

# For handlers that hang on purpose.
_DRAIN_SECONDS = 10.0


@dataclass
class Running:
    """What runs, for tests to look at."""

    health: Health
    consuming: BrokerConnection
    publishing: BrokerConnection


@asynccontextmanager
async def running(
    database: Database, amqp_url: str, *, context: Any = None, work: Sequence[Work] = (), relay: bool = True
) -> AsyncIterator[Running]:
    """Run the relay of a database and these consumers until the block ends."""
    health = Health()
    consuming = BrokerConnection(amqp_url, purpose="test consume")
    publishing = BrokerConnection(amqp_url, purpose="test publish")
    publisher = Publisher(publishing)
    consumers = [
        Consumer(Wiring(item.queue, item.handlers, context, database, consuming, publisher, health)) for item in work
    ]
    consuming_tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
    tasks = [*consuming_tasks]
    if relay:
        health.expect("relay")
        tasks.append(asyncio.create_task(Relay(database, Publisher(publishing), health).run()))
    try:
        yield Running(health, consuming, publishing)
    finally:
        # As a worker stops: what a test saw begin is committed and acknowledged when this block is over.
        for consumer in consumers:
            consumer.stop()
        if consuming_tasks:
            await asyncio.wait(consuming_tasks, timeout=_DRAIN_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await consuming.close()
        await publishing.close()
