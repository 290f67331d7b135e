"""The raw limit, out: aio-pika as its documentation shows it, with all confirms of a batch awaited together."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import aio_pika
import orjson
import uvloop

from benchmarks import material
from shared import topology

BATCH = 500


async def main(size: int) -> dict[str, float]:
    """Publish `size` bodies that are ready in memory."""
    waiting = list(material.bodies(size))
    started = time.perf_counter()
    connection = await aio_pika.connect_robust(os.environ["BENCH_AMQP_URL"])
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    exchange = await channel.get_exchange(topology.EVENTS)
    for start in range(0, size, BATCH):
        await asyncio.gather(
            *(
                exchange.publish(
                    aio_pika.Message(
                        body,
                        content_type="application/cloudevents+json",
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                        message_id=event_id,
                    ),
                    routing_key="auth.user.registered.v1",
                    mandatory=True,
                )
                for event_id, body in waiting[start : start + BATCH]
            )
        )
    seconds = time.perf_counter() - started
    await connection.close()
    return {"rate": size / seconds}


if __name__ == "__main__":
    print(orjson.dumps(uvloop.run(main(int(sys.argv[1])))).decode())
