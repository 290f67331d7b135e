"""The topology of the broker as data: exchanges, queues, bindings, retry rungs, dead letters.

One topic exchange carries every event. A consumer has quorum queues, four retry rungs (queues whose messages come back
when their time is over) and one queue for dead letters. `python -m shared.bus declare` makes all of it; services
only look whether it is there. Arguments of a queue can't be changed later: limits belong into policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shared import events
from shared.events import Event

EVENTS: Final = "events"
# Last fuse against a message that kills its consumer; RabbitMQ 4 has 20 as default.
DELIVERY_LIMIT: Final = 100
PREFETCH: Final = 200


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of the retry ladder."""

    name: str
    milliseconds: int


LADDER: Final = (Rung("5s", 5_000), Rung("30s", 30_000), Rung("5m", 300_000), Rung("1h", 3_600_000))


@dataclass(frozen=True, slots=True)
class Queue:
    """A quorum queue of one consumer and the events that come into it."""

    name: str
    binds: tuple[type[Event], ...]
    prefetch: int = PREFETCH

    @property
    def service(self) -> str:
        """Name the service that consumes it."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Stream:
    """A log of recent events that every replica of a process reads for itself, from some minutes ago on."""

    name: str
    binds: tuple[type[Event], ...]
    max_age: str = "1h"
    segment_bytes: int = 1_000_000

    @property
    def arguments(self) -> dict[str, Any]:
        """Give the arguments of its declaration."""
        return {
            "x-queue-type": "stream",
            "x-max-age": self.max_age,
            "x-stream-max-segment-size-bytes": self.segment_bytes,
        }


AUTH_EVENTS: Final = Queue("auth.events", (events.PasswordResetRequested, events.PasswordChanged))
REFERRALS_SYNC: Final = Queue("referrals.sync", (events.ReferralSyncRequested,), prefetch=1)
INVITATIONS_EVENTS: Final = Queue("invitations.events", (events.UserRegistered, events.UserChanged))
INVITATIONS_CHUNKS: Final = Queue("invitations.chunks", (events.BulkChunkQueued,), prefetch=4)
# One queue per publisher: a flood of one service fills its own queue and takes its turn with the others.
AUDIT_EVENTS: Final = tuple(
    Queue(f"audit.events.{event.publisher()}", (event,), prefetch=500)
    for event in (events.AuthAudit, events.ReferralsAudit, events.InvitationsAudit, events.AuditAudit)
)
GATEWAY_REVOCATIONS: Final = Stream("gateway.revocations", (events.SessionsRevoked, events.UserChanged))

QUEUES: Final = (AUTH_EVENTS, REFERRALS_SYNC, INVITATIONS_EVENTS, INVITATIONS_CHUNKS, *AUDIT_EVENTS)
STREAMS: Final = (GATEWAY_REVOCATIONS,)
BOUND: Final[tuple[Queue | Stream, ...]] = (*QUEUES, *STREAMS)
CONSUMERS: Final = tuple(sorted({queue.service for queue in QUEUES}))


def dead_letters_of(service: str) -> str:
    """Name the queue of a consumer's dead letters."""
    return f"{service}.dead"


def dead_letter_exchange_of(service: str) -> str:
    """Name the exchange in front of a consumer's dead letters; services have no right to the default exchange."""
    return f"{service}.dlx"


def retry_exchange_of(service: str) -> str:
    """Name the exchange that takes messages to a rung: routing key `<rung>.<work queue>`."""
    return f"{service}.retry"


def return_exchange_of(service: str) -> str:
    """Name the exchange that brings messages back from a rung into their work queue."""
    return f"{service}.return"


def is_consumed(routing_key: str) -> bool:
    """Say whether some queue of ours must get this event; if that queue is missing, the broker has to refuse it."""
    return routing_key in _CONSUMED


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange as it is declared."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class DeclaredQueue:
    """A queue as it is declared."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """A way from an exchange into a queue."""

    exchange: str
    routing_key: str
    queue: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything that the broker must hold, in the order in which it can be declared."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[DeclaredQueue, ...]
    bindings: tuple[Binding, ...]


def topology() -> Topology:
    """Spell the data above out."""
    exchanges = [Exchange(EVENTS, "topic")]
    queues: list[DeclaredQueue] = []
    bindings: list[Binding] = []
    for service in CONSUMERS:
        exchanges += [
            Exchange(dead_letter_exchange_of(service), "fanout"),
            Exchange(retry_exchange_of(service), "topic"),
            Exchange(return_exchange_of(service), "topic"),
        ]
        queues.append(DeclaredQueue(dead_letters_of(service), _DEAD_LETTER_ARGUMENTS))
        bindings.append(Binding(dead_letter_exchange_of(service), "", dead_letters_of(service)))
        for rung in LADDER:
            name = f"{retry_exchange_of(service)}.{rung.name}"
            queues.append(DeclaredQueue(name, _rung_arguments(service, rung)))
            bindings.append(Binding(retry_exchange_of(service), f"{rung.name}.#", name))
    for queue in QUEUES:
        queues.append(DeclaredQueue(queue.name, _work_arguments(queue)))
        bindings += [Binding(EVENTS, event.routing_key, queue.name) for event in queue.binds]
        bindings.append(Binding(return_exchange_of(queue.service), f"*.{queue.name}", queue.name))
    for stream in STREAMS:
        queues.append(DeclaredQueue(stream.name, stream.arguments))
        bindings += [Binding(EVENTS, event.routing_key, stream.name) for event in stream.binds]
    return Topology(tuple(exchanges), tuple(queues), tuple(bindings))


def _rung_arguments(service: str, rung: Rung) -> dict[str, Any]:
    # TTL of the queue, not of the message: a message's own expires only at the head (docs/messaging.md M1.3).
    return _at_least_once(return_exchange_of(service)) | {"x-message-ttl": rung.milliseconds}


def _work_arguments(queue: Queue) -> dict[str, Any]:
    return _at_least_once(dead_letter_exchange_of(queue.service)) | {
        "x-dead-letter-routing-key": queue.name,
        "x-delivery-limit": DELIVERY_LIMIT,
    }


def _at_least_once(dead_letter_exchange: str) -> dict[str, Any]:
    # All four are needed, or dead-lettering silently becomes at-most-once (docs/messaging.md M1.2).
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": dead_letter_exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


# Looking at a dead letter and putting it back counts as a delivery; RabbitMQ 4 would drop it after 20 looks.
_DEAD_LETTER_ARGUMENTS: Final = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}

_CONSUMED: Final = frozenset(event.routing_key for bound in BOUND for event in bound.binds)
