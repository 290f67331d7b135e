"""Months of the log: it is kept and dropped by whole months, oldest first, never from the middle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Self

from shared.errors import Conflict

_PREFIX: Final = "records_"
_DECEMBER: Final = 12


class NothingToPrune(Conflict):
    """No whole month lies before the day that was named."""

    code = "AUDIT_NOTHING_TO_PRUNE"
    message = "No whole month of the log ends before that day."


class LogNotWhole(Conflict):
    """A log that does not verify must not lose its evidence."""

    code = "AUDIT_LOG_NOT_WHOLE"
    message = "The log does not verify; nothing was dropped. Run verify to see why."


class LogInUse(Conflict):
    """Months can't be dropped while somebody reads or verifies the log."""

    code = "AUDIT_LOG_IN_USE"
    message = "The log is being read or verified; nothing was dropped. Try again when that is over."


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month of the log, which is one table."""

    since: datetime

    @classmethod
    def of_partition(cls, name: str) -> Self:
        """Read the name of a partition."""
        year, month = name.removeprefix(_PREFIX).split("_")
        return cls(datetime(int(year), int(month), 1, tzinfo=UTC))

    @property
    def partition(self) -> str:
        """Name its table."""
        return f"{_PREFIX}{self.since:%Y_%m}"

    @property
    def name(self) -> str:
        """Name it for people: 2026-11."""
        return f"{self.since:%Y-%m}"

    @property
    def until(self) -> datetime:
        """Say when the next one begins."""
        if self.since.month == _DECEMBER:
            return self.since.replace(year=self.since.year + 1, month=1)
        return self.since.replace(month=self.since.month + 1)


def whole_months_before(partitions: Iterable[str], day: date, now: datetime) -> list[Month]:
    """List the oldest months that are over before a day; never the one that is being written; raises NothingToPrune."""
    end = min(datetime(day.year, day.month, day.day, tzinfo=UTC), now)
    months = [month for month in sorted(map(Month.of_partition, partitions)) if month.until <= end]
    if not months:
        raise NothingToPrune
    return months
