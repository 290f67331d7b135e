"""Ours, in: the consumer of shared.bus, with a handler per message or one per batch."""

from __future__ import annotations

import os
import sys

import uvloop

from benchmarks import material
from benchmarks.arena import SCHEMA
from shared import topology
from shared.bus.connection import BrokerConnection
from shared.bus.consumer import Consumer, Wiring
from shared.bus.handling import Delivery, Handler, Handlers, batch
from shared.bus.publisher import Publisher
from shared.db import Connection, Database
from shared.events import UserChanged, UserRegistered
from shared.health import Health


async def keep(_context: None, conn: Connection, event: UserRegistered) -> None:
    """Leave the effect of one message."""
    await conn.execute(
        "INSERT INTO effects (user_id, email, full_name) VALUES ($1, $2, $3)",
        event.user_id,
        event.email,
        event.full_name,
    )


@batch
async def keep_many(_context: None, conn: Connection, deliveries: list[Delivery]) -> None:
    """Leave the effects of many messages."""
    events = [delivery.event for delivery in deliveries if isinstance(delivery.event, UserRegistered)]
    await conn.execute(
        "INSERT INTO effects (user_id, email, full_name) SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])",
        [event.user_id for event in events],
        [event.email for event in events],
        [event.full_name for event in events],
    )


async def main(handler: Handler) -> None:
    """Consume until told to stop."""
    database = Database(os.environ["BENCH_POSTGRES_URL"], schema=SCHEMA)
    consuming = BrokerConnection(os.environ["BENCH_AMQP_URL"], purpose="bench consume")
    publishing = BrokerConnection(os.environ["BENCH_AMQP_URL"], purpose="bench publish")
    queue = next(queue for queue in topology.QUEUES if queue.name == material.QUEUE)
    assert queue.prefetch == material.PREFETCH
    handlers: Handlers = {UserRegistered: handler, UserChanged: handler}
    await Consumer(Wiring(queue, handlers, None, database, consuming, Publisher(publishing), Health())).run()


if __name__ == "__main__":
    uvloop.run(main({"each": keep, "batch": keep_many}[sys.argv[1]]))
