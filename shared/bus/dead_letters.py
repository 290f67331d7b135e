"""The dead letters of one service, over AMQP: look, bring back, throw away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import orjson
from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from shared import topology
from shared.bus import ladder
from shared.bus.connection import BrokerConnection
from shared.bus.publisher import Publisher


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody could handle."""

    id: str
    event_type: str
    queue: str
    reason: str
    attempts: int
    first_failed_at: str
    trace: str
    body: str

    def as_dict(self) -> dict[str, Any]:
        """Give everything, for a person to read."""
        return asdict(self)


class DeadLetters:
    """Access to one service's dead letters; each look holds the messages and puts back what it does not settle."""

    def __init__(self, url: str, service: str) -> None:
        self._name = topology.dead_letters_of(service)
        self._connection = BrokerConnection(url, purpose=f"{service} dead letters")
        self._channel: Channel | None = None
        self._redriving = BrokerConnection(url, purpose=f"{service} redrive")
        self._publisher = Publisher(self._redriving)

    async def __aenter__(self) -> Self:
        """Open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close; what was not settled goes back into the queue."""
        await self._publisher.close()
        await self._redriving.close()
        await self._connection.close()

    async def peek(self, limit: int) -> list[DeadLetter]:
        """Look at the oldest ones."""
        letters: list[DeadLetter] = []

        async def keep(_: DeliveredMessage, letter: DeadLetter) -> bool:
            letters.append(letter)
            return len(letters) < limit

        await self._visit(keep)
        return letters

    async def find(self, letter_id: str) -> DeadLetter | None:
        """Find one by the id of its event."""
        found: list[DeadLetter] = []

        async def look(_: DeliveredMessage, letter: DeadLetter) -> bool:
            if letter.id == letter_id:
                found.append(letter)
            return not found

        await self._visit(look)
        return found[0] if found else None

    async def redrive(self, letter_id: str | None) -> int:
        """Publish again, and only when that is confirmed take it out; None means all. Gives how many."""
        redriven: set[tuple[str, str]] = set()

        async def bring_back(message: DeliveredMessage, letter: DeadLetter) -> bool:
            if (letter.id, letter.queue) in redriven:
                return False  # it failed again meanwhile, and would do so for ever
            redriven.add((letter.id, letter.queue))
            await self._publisher.publish_one(ladder.redriven(letter.queue, message.body))
            return True

        return await self._settle(letter_id, bring_back)

    async def drop(self, letter_id: str | None) -> int:
        """Take out for good; None means all. Gives how many."""

        async def nothing(_: DeliveredMessage, __: DeadLetter) -> bool:
            return True

        return await self._settle(letter_id, nothing)

    async def _settle(
        self, letter_id: str | None, act: Callable[[DeliveredMessage, DeadLetter], Awaitable[bool]]
    ) -> int:
        count = 0

        async def settle(message: DeliveredMessage, letter: DeadLetter) -> bool:
            nonlocal count
            if letter_id in (None, letter.id) and await act(message, letter):
                await message.channel.basic_ack(message.delivery_tag or 0)
                count += 1
            return letter_id is None or count == 0

        await self._visit(settle)
        return count

    async def _visit(self, look: Callable[[DeliveredMessage, DeadLetter], Awaitable[bool]]) -> None:
        """Show one message after the other until `look` has seen enough; what it does not settle goes back."""
        channel = await self._open_channel()
        try:
            while True:
                message = await channel.basic_get(self._name)
                if isinstance(message.delivery, spec.Basic.GetEmpty) or not await look(message, _letter(message)):
                    break
        finally:
            # Said by name and on the same channel: what goes back with a closing channel comes late for the next look.
            await channel.basic_nack(0, multiple=True, requeue=True)

    async def _open_channel(self) -> Channel:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._connection.channel()
        return self._channel


def _letter(message: DeliveredMessage) -> DeadLetter:
    properties = message.header.properties
    headers = properties.headers or {}
    try:
        envelope = orjson.loads(message.body)
        event_id, event_type = str(envelope["id"]), str(envelope["type"])
    except (ValueError, KeyError, TypeError):
        event_id, event_type = properties.message_id or "?", "not readable"
    deaths = headers.get("x-death")
    fuse = f"delivered more than {topology.DELIVERY_LIMIT} times" if deaths else "unknown"
    return DeadLetter(
        id=event_id,
        event_type=event_type,
        queue=str(headers.get(ladder.QUEUE) or message.routing_key),
        reason=str(headers.get(ladder.REASON) or fuse),
        attempts=ladder.attempt_of(headers),
        first_failed_at=str(headers.get(ladder.FIRST_FAILED_AT) or "-"),
        trace=str(headers.get(ladder.TRACE) or ""),
        body=message.body.decode(errors="replace"),
    )
