"""Throttling of guesses: a few are free, then each further one costs a growing pause that ends by itself.

NIST SP 800-63B-4 §3.2.2 asks for a limit; a pause instead of a lock leaves nobody locked out by a stranger. The verdict
is made after the slow hash, on the locked row, and holds for right guesses too: of 200 parallel guesses only as many as
are free are ever answered truthfully, and honest parallel sign-ins are not counted at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil


@dataclass(frozen=True, slots=True)
class ThrottleRules:
    """How many failures are free, how the pause grows, when failures are forgotten."""

    free_failures: int = 10
    first_pause: timedelta = timedelta(seconds=30)
    longest_pause: timedelta = timedelta(minutes=15)
    forgotten_after: timedelta = timedelta(hours=24)

    def pause_after(self, failures: int) -> timedelta:
        """Give the pause that the latest of so many failures in a row brings."""
        if failures < self.free_failures:
            return timedelta(0)
        doublings = min(
            failures - self.free_failures, 20
        )  # 2**20 half minutes is past any pause; keeps the number small
        return min(self.longest_pause, self.first_pause * (1 << doublings))


@dataclass(frozen=True, slots=True)
class Throttle:
    """The failures in a row of one subject."""

    failures: int = 0
    failed_at: datetime | None = None
    paused_until: datetime | None = None

    def is_paused(self, now: datetime) -> bool:
        """Say whether guesses are not answered now."""
        return self.paused_until is not None and now < self.paused_until

    def seconds_left(self, now: datetime) -> int:
        """Give the rest of the pause in whole seconds, rounded up."""
        return 0 if self.paused_until is None else max(0, ceil((self.paused_until - now).total_seconds()))

    def failed(self, now: datetime, rules: ThrottleRules) -> Throttle:
        """Count one more failure."""
        stale = self.failed_at is not None and now - self.failed_at >= rules.forgotten_after
        failures = 1 if stale else self.failures + 1
        pause = rules.pause_after(failures)
        return replace(self, failures=failures, failed_at=now, paused_until=now + pause if pause else None)
