"""What becomes of a message that could not be handled: a rung of the retry ladder, or the dead letters.

The copy is published and confirmed first, then the original is acknowledged: a crash in between makes a duplicate,
which the inbox absorbs, never a loss. Attempts are counted in a header of our own; what the broker writes about
deliveries changes its meaning between versions (docs/messaging.md M1.1).
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from shared import topology
from shared.bus.publisher import Outgoing
from shared.identifiers import uuid7

ATTEMPT: Final = "attempt"
FIRST_FAILED_AT: Final = "first-failed-at"
REASON: Final = "reason"
QUEUE: Final = "queue"
TRACE: Final = "trace"
_TRACE_LIMIT: Final = 4_000


def attempt_of(headers: Mapping[str, Any]) -> int:
    """Say how many times a message has failed before."""
    attempt = headers.get(ATTEMPT, 0)
    return attempt if isinstance(attempt, int) else 0


def is_exhausted(attempt: int) -> bool:
    """Say whether a message that failed so often before has climbed the whole ladder."""
    return attempt >= len(topology.LADDER)


def to_rung(queue: topology.Queue, body: bytes, headers: Mapping[str, Any], error: BaseException) -> Outgoing:
    """Send a message to the rung of its attempt, to come back to the same queue."""
    attempt = attempt_of(headers)
    rung = topology.LADDER[min(attempt, len(topology.LADDER) - 1)]
    return Outgoing(
        exchange=topology.retry_exchange_of(queue.service),
        routing_key=f"{rung.name}.{queue.name}",
        body=body,
        message_id=str(uuid7()),
        headers={**_own(headers), **_facts(headers, error), ATTEMPT: attempt + 1},
    )


def to_dead_letters(queue: topology.Queue, body: bytes, headers: Mapping[str, Any], error: BaseException) -> Outgoing:
    """Set a message aside with everything that a person needs to judge it."""
    return Outgoing(
        exchange=topology.dead_letter_exchange_of(queue.service),
        routing_key=queue.name,
        body=body,
        message_id=str(uuid7()),
        headers={
            **_own(headers),
            **_facts(headers, error),
            ATTEMPT: attempt_of(headers) + 1,
            QUEUE: queue.name,
            TRACE: "".join(traceback.format_exception(error))[-_TRACE_LIMIT:],
        },
    )


def redriven(queue: str, body: bytes) -> Outgoing:
    """Bring a dead letter back into its work queue with a clean slate."""
    return Outgoing(
        exchange=topology.return_exchange_of(queue.partition(".")[0]),
        routing_key=f"now.{queue}",
        body=body,
        message_id=str(uuid7()),
    )


def _facts(headers: Mapping[str, Any], error: BaseException) -> dict[str, Any]:
    return {
        REASON: f"{type(error).__name__}: {error}"[:500],
        FIRST_FAILED_AT: headers.get(FIRST_FAILED_AT) or datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _own(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Keep our own headers; those with x- belong to the broker, which ignores or misreads them when they come back."""
    return {name: value for name, value in headers.items() if not name.startswith("x-")}
