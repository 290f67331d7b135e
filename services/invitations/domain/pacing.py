"""The pace of one provider account, shared by all senders: a token bucket and a circuit breaker."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

# So many failures in a row open the circuit; a single one opens it again while it is being tried.
_FAILURES_TO_OPEN: Final = 20
_OPEN_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Pace:
    """What a provider takes, of messages or of questions: so many per second, so many at once."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """The state that all senders of one account share."""

    tokens: float
    refilled_at: datetime
    failures: int
    paused_until: datetime | None

    def take(self, wanted: int, pace: Pace, now: datetime) -> tuple["ProviderAccount", int]:
        """Take leave to send up to `wanted` messages now; gives the new state and how many may go."""
        elapsed = max(0.0, (now - self.refilled_at).total_seconds())
        level = min(pace.burst, self.tokens + elapsed * pace.per_second)
        granted = 0 if self.paused_until and self.paused_until > now else min(wanted, int(level))
        return replace(self, tokens=level - granted, refilled_at=now), granted

    def pause_for(self, wanted: int, pace: Pace, now: datetime) -> float:
        """Tell for how many seconds to wait before the next `wanted` messages, or what can be sent in a second.

        Whoever came back for each single message would send it in a request of its own, where a provider takes many
        in one and so many requests a minute.
        """
        if self.paused_until and self.paused_until > now:
            return (self.paused_until - now).total_seconds()
        enough = max(1.0, min(wanted, pace.per_second, pace.burst))
        return max(0.0, (enough - self.tokens) / pace.per_second) if wanted else 0.0

    def learn(self, *, succeeded: int, failed: int, pause: float | None, now: datetime) -> "ProviderAccount":
        """Take note of answers; `pause` is what the provider itself asked for (429 with Retry-After)."""
        failures = failed if succeeded else self.failures + failed
        until = [self.paused_until] if self.paused_until else []
        if pause:
            until.append(now + timedelta(seconds=pause))
        if failures >= _FAILURES_TO_OPEN and not succeeded:
            until.append(now + timedelta(seconds=_OPEN_SECONDS))
            failures = _FAILURES_TO_OPEN - 1
        return replace(self, failures=failures, paused_until=max(until) if until else None)
