"""How the queues of one service stand at the broker: what waits, who consumes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal

from aiormq.exceptions import ChannelNotFoundEntity

from shared import topology
from shared.bus.connection import BROKER_ERRORS, BrokerConnection, BrokerUnavailable, close_channel, in_words

_LOOK_SECONDS: Final = 3.0
Kind = Literal["work", "retry", "dead"]


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue; without a figure where the broker has no such queue."""

    name: str
    kind: Kind
    messages: int | None
    consumers: int | None


def queues_of(service: str) -> list[tuple[str, Kind]]:
    """Name a consumer's queues: work, the rungs of the retry ladder, dead letters."""
    work: list[tuple[str, Kind]] = [(queue.name, "work") for queue in topology.QUEUES if queue.service == service]
    rungs: list[tuple[str, Kind]] = [
        (f"{topology.retry_exchange_of(service)}.{rung.name}", "retry") for rung in topology.LADDER
    ]
    return [*work, *rungs, (topology.dead_letters_of(service), "dead")]


async def look_at_queues(url: str, service: str) -> list[QueueState]:
    """Look at every queue of a service without touching a message; raises BrokerUnavailable."""
    connection = BrokerConnection(url, purpose=f"{service} look at queues")
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            return [await _look(connection, name, kind) for name, kind in queues_of(service)]
    except BROKER_ERRORS as error:
        raise BrokerUnavailable(f"The message broker is not available ({in_words(error)}).") from error
    finally:
        await connection.close()


async def _look(connection: BrokerConnection, name: str, kind: Kind) -> QueueState:
    channel = await connection.channel()
    try:
        declared = await channel.queue_declare(name, passive=True)
    except ChannelNotFoundEntity:
        return QueueState(name, kind, None, None)
    finally:
        await close_channel(channel)
    return QueueState(name, kind, declared.message_count, declared.consumer_count)
