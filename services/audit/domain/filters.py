"""What can be asked of the log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

ORDER: Final = ("occurred_at", "seq")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Conditions that must all hold; `since` is part of the range, `until` is not."""

    since: datetime | None = None
    until: datetime | None = None
    actor_id: int | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    service: str | None = None
    on_behalf_of: int | None = None

    def given(self) -> dict[str, Any]:
        """Give the conditions that were asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended; records are in the order of when they happened, newest first, then by place."""

    occurred_at: datetime
    seq: int
