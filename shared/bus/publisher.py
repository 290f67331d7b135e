"""Publishing: many messages at once, each confirmed by the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiormq
from aiormq import spec
from aiormq.channel import Channel

from shared.bus.connection import BROKER_ERRORS, BrokerConnection, close_channel, in_words

# A publish that is not confirmed by then may still arrive (facts/messaging 2.4): not confirmed is not "not sent".
_CONFIRM_SECONDS: Final = 10.0


class Refused(Exception):
    """The broker refused this one message: no queue for it, or the queue is full."""


class Interrupted(Exception):
    """The connection failed before the confirm came; the message may or may not be there."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way out; `message_id` must be unique among those in flight (returns are matched by it)."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    mandatory: bool = True
    headers: dict[str, Any] = field(default_factory=dict)


class Publisher:
    """One channel with confirms; batches are published one after the other."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._channel: Channel | None = None
        self._lock = asyncio.Lock()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | Interrupted | None]:
        """Publish all and wait for all confirms; gives None for each that is confirmed, else why not.

        Raises BrokerUnavailable when there is no broker to publish to.
        """
        async with self._lock:
            channel = await self._open_channel()
            confirms = [asyncio.ensure_future(_publish(channel, message)) for message in messages]
            _, late = await asyncio.wait(confirms, timeout=_CONFIRM_SECONDS)
            for confirm in late:
                confirm.cancel()
            if late:
                await asyncio.wait(late)
            outcomes = [_outcome(confirm) for confirm in confirms]
            if any(isinstance(outcome, Interrupted) for outcome in outcomes):
                await self._give_up(channel)
            return outcomes

    async def publish_one(self, message: Outgoing) -> None:
        """Publish one message; raises Refused or Interrupted unless it is confirmed."""
        (problem,) = await self.publish([message])
        if problem is not None:
            raise problem

    async def close(self) -> None:
        """Close the channel; the connection belongs to the caller."""
        if self._channel is not None:
            await close_channel(self._channel)
            self._channel = None

    async def _open_channel(self) -> Channel:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._connection.channel(confirms=True)
        return self._channel

    async def _give_up(self, channel: Channel) -> None:
        """Start on a fresh connection next time; confirms that come late on this one must not be counted twice."""
        self._channel = None
        await close_channel(channel)
        await self._connection.close()


async def _publish(channel: Channel, message: Outgoing) -> object:
    # wait=False leaves out one wait for the socket per message; the confirm is the same future (facts/messaging 3.3).
    return await channel.basic_publish(
        message.body,
        exchange=message.exchange,
        routing_key=message.routing_key,
        mandatory=message.mandatory,
        wait=False,
        properties=spec.Basic.Properties(
            delivery_mode=2,
            content_type="application/cloudevents+json",
            message_id=message.message_id,
            headers=message.headers or None,
        ),
    )


def _outcome(confirm: asyncio.Future[object]) -> Refused | Interrupted | None:
    if confirm.cancelled():
        return Interrupted(f"no confirm within {_CONFIRM_SECONDS:.0f} s")
    error = confirm.exception()
    if error is None:
        return None
    if isinstance(error, aiormq.exceptions.PublishError):
        return Refused(f"no queue takes it ({error})")
    if isinstance(error, aiormq.exceptions.DeliveryError):
        return Refused("the queue is full or not available")
    if isinstance(error, BROKER_ERRORS):
        return Interrupted(in_words(error))
    raise error
