"""Handlers of events: what they may look like and how a batch of deliveries goes through them.

A plain handler `async (context, conn, event)` runs inside the transaction that also writes the inbox row; deliveries
that wait together share one transaction, and if one of them fails, each gets a transaction of its own. `@batch` takes
all deliveries of a transaction at once. `@outside` opens its own transactions and must be idempotent by itself: for
long work and for work with HTTP calls, during which no transaction may stay open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any, Final

from shared import inbox, telemetry
from shared.db import Connection, Database
from shared.events import Envelope, Event

# Contexts differ per service and handlers per event; the pairing of the two is checked by each service's own types.
Handler = Callable[..., Awaitable[None]]
Handlers = Mapping[type[Event], Handler]

_STYLE: Final = "handler_style"


class Style(Enum):
    """How a handler wants its events."""

    ONE_BY_ONE = "one by one"
    BATCH = "batch"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was delivered and decoded."""

    envelope: Envelope
    body: bytes
    tag: int
    attempt: int
    headers: Mapping[str, Any]

    @property
    def event(self) -> Event:
        """Give the event itself."""
        return self.envelope.event

    @property
    def trace(self) -> telemetry.Trace:
        """Tie what the handler does to the request and the event that caused it."""
        envelope = self.envelope
        return telemetry.Trace(
            request_id=telemetry.sane_request_id(envelope.correlation_id),
            causation_id=str(envelope.id),
            traceparent=telemetry.next_traceparent(envelope.traceparent),
        )


def batch(handler: Handler) -> Handler:
    """Mark a handler `async (context, conn, deliveries)` that takes many deliveries of one transaction at once."""
    setattr(handler, _STYLE, Style.BATCH)
    return handler


def outside(handler: Handler) -> Handler:
    """Mark a handler `async (context, event)` that opens its own transactions and is idempotent by itself."""
    setattr(handler, _STYLE, Style.OUTSIDE)
    return handler


def style_of(handler: Handler) -> Style:
    """Say how a handler wants its events."""
    style: Style = getattr(handler, _STYLE, Style.ONE_BY_ONE)
    return style


async def handle_together(
    database: Database, context: Any, consumer: str, handlers: Handlers, deliveries: Sequence[Delivery]
) -> int:
    """Handle deliveries in one transaction, each event once; gives how many had been handled before."""
    async with database.transaction() as conn:
        fresh = await inbox.claim(conn, consumer, [delivery.envelope.id for delivery in deliveries])
        todo = list(_first_of_each(deliveries, fresh))
        for handler, run in groupby(todo, key=lambda delivery: handlers[type(delivery.event)]):
            if style_of(handler) is Style.BATCH:
                await handler(context, conn, list(run))
            else:
                await _one_by_one(handler, context, conn, run)
    return len(deliveries) - len(todo)


async def _one_by_one(handler: Handler, context: Any, conn: Connection, deliveries: Iterator[Delivery]) -> None:
    for delivery in deliveries:
        with telemetry.use(delivery.trace):
            await handler(context, conn, delivery.event)


def _first_of_each(deliveries: Sequence[Delivery], fresh: set[Any]) -> Iterator[Delivery]:
    seen = set()
    for delivery in deliveries:
        event_id = delivery.envelope.id
        if event_id in fresh and event_id not in seen:
            seen.add(event_id)
            yield delivery
