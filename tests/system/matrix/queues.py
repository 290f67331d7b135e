"""What makes every service write an audit event: an admin who settles dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from shared import topology
from shared.bus.publisher import Outgoing
from tests.support.builders import an_envelope
from tests.support.messages import publishing
from tests.system.matrix.hub import Hub
from tests.system.matrix.scenario import Scenarios, Sign, sign

SCENARIOS: Final = Scenarios()
_DESKS: Final = {
    "auth": "/api/v1/auth/queues",
    "referrals": "/api/referrals/queues",
    "invitations": "/api/Sponsorship/admin/queues",
    "audit": "/api/v1/audit/queues",
}


@SCENARIOS.leaves(
    *(f"{service}.dead_letters.redrive_requested success notice" for service in _DESKS),
    *(f"{service}.dead_letters.drop_requested success warning" for service in _DESKS),
)
def dead_letters_are_settled(hub: Hub) -> Iterator[Sign]:
    for service, desk in _DESKS.items():
        asyncio.run(_set_aside(hub.stack["amqp_url"], service))
        target = f"queue:{topology.dead_letters_of(service)}"
        for act, loud in (("redrive", "notice"), ("drop", "warning")):
            answer = hub.caller("admin").call("POST", f"{desk}/dead-letters/{act}", json={"all": True})
            answer.raise_for_status()
            yield sign(f"{service}.dead_letters.{act}_requested success {loud}", "admin", target, request=answer)


async def _set_aside(amqp_url: str, service: str) -> None:
    """Put a letter among a service's dead that its first queue would take and forget."""
    queue = next(queue.name for queue in topology.QUEUES if queue.service == service)
    envelope, body = an_envelope(1)
    async with publishing(amqp_url) as publisher:
        exchange = topology.dead_letter_exchange_of(service)
        await publisher.publish_one(Outgoing(exchange, queue, body, message_id=str(envelope.id)))
