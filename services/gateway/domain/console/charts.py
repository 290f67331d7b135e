"""A small chart as plain figures, which a template draws: one bar per day, in it one piece per tier."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 190
_LEFT: Final = 40
_RIGHT: Final = 14
_TOP: Final = 12
_BOTTOM: Final = 24
_TIERS: Final = ("S", "M", "L", "XL")
_MOST_LABELS: Final = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle: codes of one tier on one day."""

    tier: str
    x: float
    y: float
    width: float
    height: float
    count: int


@dataclass(frozen=True, slots=True)
class Day:
    """A day's bar, where its name stands, and how many codes that were."""

    day: date
    x: float
    pieces: list[Piece]
    total: int
    is_named: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the grid with its figure."""

    y: float
    value: int


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn."""

    days: list[Day]
    lines: list[Line]
    total: int
    left: int = _LEFT
    width: int = WIDTH
    height: int = HEIGHT
    base: int = HEIGHT - _BOTTOM


def spent_chart(spent: Iterable[tuple[date, str, int]], today: date, days: int) -> Chart:
    """Lay out the codes that were taken on the last days, today the last of them."""
    counts: dict[tuple[date, str], int] = {}
    for day, tier, count in spent:
        counts[day, tier] = counts.get((day, tier), 0) + count
    dates = [today - timedelta(days=days - 1 - index) for index in range(days)]
    totals = {day: sum(counts.get((day, tier), 0) for tier in _TIERS) for day in dates}
    top = _round_up(max(totals.values()))
    scale = (HEIGHT - _TOP - _BOTTOM) / top
    step = (WIDTH - _LEFT - _RIGHT) / days
    every = math.ceil(days / _MOST_LABELS)
    bars = []
    for index, day in enumerate(dates):
        base, pieces, x = float(HEIGHT - _BOTTOM), [], _LEFT + index * step
        for tier in _TIERS:
            if count := counts.get((day, tier), 0):
                base -= count * scale
                pieces.append(
                    Piece(
                        tier,
                        round(x + step * 0.15, 1),
                        round(base, 1),
                        round(step * 0.7, 1),
                        round(count * scale, 1),
                        count,
                    )
                )
        bars.append(Day(day, round(x + step / 2, 1), pieces, totals[day], (days - 1 - index) % every == 0))
    lines = [Line(round(HEIGHT - _BOTTOM - value * scale, 1), value) for value in (0, top // 2, top)]
    return Chart(bars, lines, sum(totals.values()))


def _round_up(value: int) -> int:
    """Give the next even round number, so that its half is one too."""
    if value <= 4:  # noqa: PLR2004 - below, every step is a whole code
        return max(2, value + value % 2)
    power: int = 10 ** (len(str(value)) - 1)
    return next(step * power // 2 for step in (2, 4, 8, 12, 16, 20) if step * power // 2 >= value)
