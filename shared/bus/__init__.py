"""RabbitMQ: publishing with confirms, consuming under supervision, retry and dead letters.

Plain aio-pika connections, not its robust ones: those heal silently or not at all (a queue that can't be declared again
keeps a whole connection closed, a cancelled consumer is retried at DEBUG for ever; facts/messaging 3.2). Here a lost
connection, channel or consumer ends a session, and a supervisor starts the next one and turns readiness red meanwhile.
"""

from __future__ import annotations

from shared.bus.connection import BrokerConnection
from shared.bus.consumer import Consumer, Wiring
from shared.bus.handling import Delivery, Handler, Handlers, batch, outside
from shared.bus.publisher import Outgoing, Publisher
from shared.bus.stream import follow

__all__ = [
    "BrokerConnection",
    "Consumer",
    "Delivery",
    "Handler",
    "Handlers",
    "Outgoing",
    "Publisher",
    "Wiring",
    "batch",
    "follow",
    "outside",
]
