"""Quiet hours: when a sponsor's messages must not wake farmers."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from typing import Final

# Turkey has been on UTC+3 the whole year since 2016; no time zone data is needed for that.
ISTANBUL: Final = timezone(timedelta(hours=3), "Europe/Istanbul")


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From one time of the day to another, over midnight if the first is later; the clock of Istanbul."""

    starts: time
    ends: time

    def pause(self, now: datetime) -> float:
        """Tell for how many seconds nothing may be sent; 0 outside of the quiet hours."""
        local = now.astimezone(ISTANBUL)
        clock = local.time()
        overnight = self.starts > self.ends
        quiet = clock >= self.starts or clock < self.ends if overnight else self.starts <= clock < self.ends
        if not quiet:
            return 0.0
        end = local.replace(hour=self.ends.hour, minute=self.ends.minute, second=0, microsecond=0)
        if end <= local:
            end += timedelta(days=1)
        return (end - local).total_seconds()
