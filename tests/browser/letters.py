"""Dead letters, put where operators find them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from shared import topology
from shared.bus.publisher import Outgoing
from tests.support.builders import an_envelope
from tests.support.messages import publishing


def set_aside(amqp_url: str, number: int) -> list[str]:
    """Put so many letters among the dead of referrals; in a thread, because Playwright has the loop of this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _set_aside(amqp_url, number)).result()


async def _set_aside(amqp_url: str, number: int) -> list[str]:
    ids = []
    async with publishing(amqp_url) as publisher:
        for _ in range(number):
            envelope, body = an_envelope(1)
            ids.append(str(envelope.id))
            headers = {"queue": "referrals.sync", "reason": "ValueError: out of stock", "attempt": 4}
            exchange = topology.dead_letter_exchange_of("referrals")
            await publisher.publish_one(Outgoing(exchange, "referrals.sync", body, message_id=ids[-1], headers=headers))
    return ids
