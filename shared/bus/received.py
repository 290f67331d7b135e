"""What a message says of itself, held against what the broker vouches for."""

from __future__ import annotations

from aiormq.abc import DeliveredMessage

from shared import topology
from shared.events import Envelope, Undecodable, decode


def read(message: DeliveredMessage) -> Envelope:
    """Decode a message; raises Undecodable, also for an event under the routing key of another.

    The broker lets a service publish only routing keys of its own (shared/permissions.py), but it reads no content,
    and lets the CC header of a publisher choose further queues. What came by another exchange was put there by the
    consumer's own service, for nobody else may write to it.
    """
    envelope = decode(message.body)
    if message.exchange == topology.EVENTS and message.routing_key != envelope.event.routing_key:
        raise Undecodable(f"{envelope.event.routing_key} was published as {message.routing_key}")
    return envelope
