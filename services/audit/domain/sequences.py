"""Producers number their events without gaps; a missing number means that an event was lost before the chain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SourceGap:
    """Numbers of one producer that never arrived, and the record that showed it."""

    source: str
    first: int
    last: int
    noticed_at_seq: int
    noticed_at: datetime

    def words(self) -> str:
        """Say it in one line."""
        numbers = f"event {self.first}" if self.first == self.last else f"events {self.first} to {self.last}"
        return f"{numbers} of {self.source} never arrived"


class SourceSequences:
    """Follows the numbering of every producer; numbers may arrive late and in any order, but once."""

    def __init__(self, *, from_the_start: bool) -> None:
        self._from_the_start = from_the_start
        self._first: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self._missing: dict[str, list[SourceGap]] = {}

    def take(self, source: str, number: int, seq: int, recorded_at: datetime) -> bool:
        """Note a number; False when the producer has used it before."""
        start = 1 if self._from_the_start else number
        first = self._first.setdefault(source, start)
        expected = self._next.setdefault(source, start)
        if number < first:
            return True  # belongs to the time before the range that is being checked
        if number < expected:
            return self._fill(source, number)
        if number > expected:
            gap = SourceGap(source, expected, number - 1, seq, recorded_at)
            self._missing.setdefault(source, []).append(gap)
        self._next[source] = number + 1
        return True

    def gaps(self) -> list[SourceGap]:
        """List the numbers that are still missing."""
        return [gap for gaps in self._missing.values() for gap in gaps]

    def _fill(self, source: str, number: int) -> bool:
        gaps = self._missing.get(source, [])
        for index, gap in enumerate(gaps):
            if gap.first <= number <= gap.last:
                halves = [replace(gap, last=number - 1), replace(gap, first=number + 1)]
                gaps[index : index + 1] = [half for half in halves if half.first <= half.last]
                return True
        return False
