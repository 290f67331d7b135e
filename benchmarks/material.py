"""What all contenders work on, and how a contender measures itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shared.events import UserRegistered, encode

QUEUE = "invitations.events"
PREFETCH = 200  # What shared.topology gives a queue of events.
FULL_NAME = "Deniz Örnek " + "x" * 500


def event(number: int) -> UserRegistered:
    """Make one event."""
    return UserRegistered(
        user_id=number,
        version=1,
        email=f"sponsor{number}@example.com",
        full_name=FULL_NAME,
        roles=["Sponsor"],
        is_active=True,
        status="active",
    )


def bodies(count: int) -> Iterator[tuple[str, bytes]]:
    """Make envelopes as they travel, with their ids."""
    for number in range(1, count + 1):
        event_id, body = encode(event(number))
        yield str(event_id), body


def peak_megabytes() -> float:
    """Give the most memory that this program has used (ru_maxrss would also count the process that started it)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
