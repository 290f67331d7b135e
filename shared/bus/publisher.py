"""Publishing: many messages at once, each confirmed by the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

import aiormq
from aiormq import spec
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from shared.bus.connection import BROKER_ERRORS, BrokerConnection, close_channel, in_words

# A publish that is not confirmed by then may still arrive (docs/messaging.md M1.4): not confirmed is not "not sent".
_CONFIRM_SECONDS: Final = 10.0


class Refused(Exception):
    """The broker refused this one message: no queue for it, or the queue is full."""


class NotPermitted(Refused):
    """The broker does not let this user publish it; that stays so until somebody changes the user's rights."""


class Interrupted(Exception):
    """The connection failed before the confirm came; the message may or may not be there."""


Address = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way out; `message_id` must be unique among those in flight (returns are matched by it)."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    mandatory: bool = True
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        """Name all that the right to publish depends on."""
        return self.exchange, self.routing_key


Outcome = Refused | Interrupted | None


class Publisher:
    """One channel with confirms; batches are published one after the other."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._channel: Channel | None = None
        self._lock = asyncio.Lock()
        # Addresses that this user may not publish to, as far as we know: tried again by single messages.
        self._forbidden: set[Address] = set()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Outcome]:
        """Publish all and wait for all confirms; gives None for each that is confirmed, else why not.

        Raises BrokerUnavailable when there is no broker to publish to.
        """
        async with self._lock:
            doubtful = {place for place, message in enumerate(messages) if message.address in self._forbidden}
            outcomes = await self._together(messages, [n for n in range(len(messages)) if n not in doubtful])
            if any(isinstance(outcome, NotPermitted) for outcome in outcomes.values()):
                doubtful |= {place for place, outcome in outcomes.items() if outcome is not None}
            outcomes |= await self._by_address(messages, sorted(doubtful))
            return [outcomes[place] for place in range(len(messages))]

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

    async def _together(self, messages: Sequence[Outgoing], places: Sequence[int]) -> dict[int, Outcome]:
        """Publish the messages at these places at once, with overlapped confirms."""
        if not places:
            return {}
        channel = await self._open_channel()
        outcomes = await _send(channel, [messages[place] for place in places])
        # What was still on its way to a channel that the broker had closed makes it close the connection as well.
        unsure = Interrupted if len(places) == 1 else (Interrupted, NotPermitted)
        if any(isinstance(outcome, unsure) for outcome in outcomes):
            await self._give_up(channel)
        return dict(zip(places, outcomes, strict=True))

    async def _by_address(self, messages: Sequence[Outgoing], places: Sequence[int]) -> dict[int, Outcome]:
        """Publish in order, one address at a time, and of each one message before the others.

        The broker answers a message that we may not publish by closing the channel, without a word on the messages
        around it. The right depends on the address alone, so one message finds out for all.
        """
        outcomes: dict[int, Outcome] = {}
        refusals: dict[Address, Outcome] = {}
        for address, run in groupby(places, key=lambda place: messages[place].address):
            first, *others = run
            outcome = refusals.get(address) or (await self._together(messages, [first]))[first]
            if isinstance(outcome, NotPermitted):
                refusals[address] = outcome
            outcomes |= dict.fromkeys([first, *others], outcome)
            if outcome is None:
                outcomes |= await self._together(messages, others)
        self._forbidden -= {messages[place].address for place in places}
        self._forbidden |= refusals.keys()
        return outcomes

    async def _open_channel(self) -> Channel:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._connection.channel(confirms=True)
        return self._channel

    async def _give_up(self, channel: Channel) -> None:
        """Start on a fresh connection next time; confirms that come late on this one must not be counted twice."""
        self._channel = None
        await close_channel(channel)
        await self._connection.close()


async def _send(channel: Channel, messages: Sequence[Outgoing]) -> list[Outcome]:
    """Write all messages in one piece and wait for their confirms.

    One by one with the driver's own `basic_publish`, tasks, locks and small writes took most of the relay's time
    (docs/messaging.md M2.15).
    """
    try:
        async with channel.lock:
            await channel.write_queue.put(ChannelFrame(b"".join(_frames(channel, messages)), should_close=False))
            # Nothing is awaited between this and the line before: no confirm comes before it is expected, and who is
            # cancelled while the line is full has published nothing and used up no number.
            confirms = [_expect_confirm(channel, message.message_id) for message in messages]
    except BROKER_ERRORS as error:
        return [Interrupted(in_words(error))] * len(messages)
    try:
        await asyncio.wait(confirms, timeout=_CONFIRM_SECONDS)
    finally:
        for confirm, message in zip(confirms, messages, strict=True):
            confirm.cancel()  # changes nothing where the confirm has come
            channel.message_id_delivery_tag.pop(message.message_id, None)
    return [_outcome(confirm) for confirm in confirms]


def _frames(channel: Channel, messages: Sequence[Outgoing]) -> Iterator[bytes]:
    """Write messages as the broker reads them: method, header and body of each."""
    for message in messages:
        body, most = message.body, channel.max_content_size
        yield _method(channel.number, message.exchange, message.routing_key, message.mandatory)
        properties = spec.Basic.Properties(
            delivery_mode=2,
            content_type="application/cloudevents+json",
            message_id=message.message_id,
            headers=message.headers or None,
        )
        yield marshal(ContentHeader(body_size=len(body), properties=properties), channel.number)
        for start in range(0, len(body), most):
            yield marshal(ContentBody(body[start : start + most]), channel.number)


@lru_cache(maxsize=1024)
def _method(channel_number: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    publish = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return marshal(publish, channel_number)


def _expect_confirm(channel: Channel, message_id: str) -> asyncio.Future[object]:
    """Count a message as the broker does and tell the driver who waits for its confirm or return."""
    channel.delivery_tag += 1
    confirm: asyncio.Future[object] = channel.create_future()
    channel.confirmations[channel.delivery_tag] = confirm
    channel.message_id_delivery_tag[message_id] = channel.delivery_tag
    return confirm


def _outcome(confirm: asyncio.Future[object]) -> Outcome:
    if confirm.cancelled():
        return Interrupted(f"no confirm within {_CONFIRM_SECONDS:.0f} s")
    error = confirm.exception()
    return None if error is None else _meaning_of(error)


def _meaning_of(error: BaseException) -> Refused | Interrupted:
    if isinstance(error, aiormq.exceptions.PublishError):
        return Refused(f"no queue takes it ({error})")
    if isinstance(error, aiormq.exceptions.DeliveryError):
        return Refused("the queue is full or not available")
    if isinstance(error, aiormq.exceptions.ChannelAccessRefused):
        return NotPermitted(in_words(error))
    if isinstance(error, (*BROKER_ERRORS, asyncio.CancelledError)):  # the latter is how the driver closes a channel
        return Interrupted(in_words(error))
    # Nothing that we know of: this one message waits by itself, those around it are confirmed or not on their own.
    return Refused(f"{type(error).__name__}: {error}")
