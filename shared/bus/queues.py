"""How the queues of one service stand at the broker: what waits, who consumes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal

from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity

from shared import topology
from shared.bus.connection import BROKER_ERRORS, BrokerConnection, BrokerUnavailable, in_words

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
    states: list[QueueState] = []
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            while len(states) < len(queues_of(service)):
                await _look(await connection.channel(), queues_of(service), states)
    except BROKER_ERRORS as error:
        raise BrokerUnavailable(f"The message broker is not available ({in_words(error)}).") from error
    finally:
        await connection.close()
    return states


async def _look(channel: Channel, queues: list[tuple[str, Kind]], states: list[QueueState]) -> None:
    """Look at those that were not seen yet; a queue that is missing closes the channel, so it is the last of a look."""
    for name, kind in queues[len(states) :]:
        try:
            declared = await channel.queue_declare(name, passive=True)
        except ChannelNotFoundEntity:
            states.append(QueueState(name, kind, None, None))
            return
        states.append(QueueState(name, kind, declared.message_count, declared.consumer_count))
