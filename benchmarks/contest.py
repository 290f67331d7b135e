"""Runs contenders in turn and says what came out: median, spread, ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Aim:
    """How our figure should compare to a contender's: at least so many times it (or at most, where less is better)."""

    contender: str
    figure: str
    ratio: float


@dataclass(frozen=True)
class Limit:
    """What our own figure may be at most."""

    figure: str
    at_most: float


@dataclass(frozen=True)
class Row:
    """One question: what is measured, who takes part (we first), what we aim for, and under which terms."""

    name: str
    title: str
    contenders: Mapping[str, Callable[[], dict[str, float]]]
    units: Mapping[str, str]
    aims: Sequence[Aim]
    terms: Sequence[str]
    less_is_better: bool = False
    limits: Sequence[Limit] = ()


@dataclass
class Outcome:
    """The figures of one row: contender → figure → value per round."""

    row: Row
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """Name our contender."""
        return next(iter(self.row.contenders))

    def median(self, contender: str, figure: str) -> float:
        """Give the middle value."""
        return statistics.median(self.figures[contender][figure])

    def ratio(self, contender: str, figure: str) -> float:
        """Say how many times better we are: the median over rounds, each round compared with itself."""
        pairs = zip(self.figures[self.ours][figure], self.figures[contender][figure], strict=True)
        return statistics.median(
            (theirs / ours) if self.row.less_is_better else (ours / theirs) for ours, theirs in pairs
        )

    def holds(self, aim: Aim) -> bool:
        """Say whether an aim was reached."""
        return self.ratio(aim.contender, aim.figure) >= aim.ratio

    def keeps(self, limit: Limit) -> bool:
        """Say whether our own figure stays below its limit."""
        return self.median(self.ours, limit.figure) <= limit.at_most

    def missed(self) -> list[str]:
        """Name the aims that were not reached and the limits that were passed."""
        aims = [f"{self.row.name}: {aim.contender}" for aim in self.row.aims if not self.holds(aim)]
        return aims + [f"{self.row.name}: {limit.figure}" for limit in self.row.limits if not self.keeps(limit)]

    def as_json(self) -> dict[str, Any]:
        """Give everything that was measured, for results.json."""
        return {
            "title": self.row.title,
            "terms": list(self.row.terms),
            "figures": {
                contender: {
                    figure: {"unit": self.row.units[figure], "median": self.median(contender, figure), "values": values}
                    for figure, values in figures.items()
                }
                for contender, figures in self.figures.items()
            },
            "aims": [
                {
                    "against": aim.contender,
                    "figure": aim.figure,
                    "at_least": aim.ratio,
                    "reached": round(self.ratio(aim.contender, aim.figure), 2),
                    "holds": self.holds(aim),
                }
                for aim in self.row.aims
            ],
            "limits": [
                {"figure": limit.figure, "at_most": limit.at_most, "holds": self.keeps(limit)}
                for limit in self.row.limits
            ],
        }


def run(row: Row, rounds: int) -> Outcome:
    """Let all contenders run once per round, in alternating order, so that a drift of the machine evens out."""
    print(f"\n{row.name}: {row.title}")
    for term in row.terms:
        print(f"  · {term}")
    outcome = Outcome(row, {name: {figure: [] for figure in row.units} for name in row.contenders})
    for number in range(1, rounds + 1):
        names = list(row.contenders) if number % 2 else list(row.contenders)[::-1]
        for name in names:
            started = time.monotonic()
            measured = row.contenders[name]()
            for figure, value in measured.items():
                outcome.figures[name][figure].append(value)
            shown = ", ".join(f"{_number(value)} {row.units[figure]}" for figure, value in measured.items())
            print(f"  round {number}: {name:<34} {shown}   ({time.monotonic() - started:.0f} s)", flush=True)
    _print(outcome)
    return outcome


def _print(outcome: Outcome) -> None:
    row = outcome.row
    for figure, unit in row.units.items():
        print(f"  {'':<34} {'median':>12} {'least':>12} {'most':>12}  {unit}")
        for name, figures in outcome.figures.items():
            values = figures[figure]
            ratio = "" if name == outcome.ours else f"  we: {outcome.ratio(name, figure):.2f} ×"
            spread = f"{_number(min(values)):>12} {_number(max(values)):>12}"
            print(f"  {name:<34} {_number(statistics.median(values)):>12} {spread}{ratio}")
    for aim in row.aims:
        verdict = "reached" if outcome.holds(aim) else "MISSED"
        print(f"  aim ≥ {aim.ratio} × {aim.contender} ({row.units[aim.figure]}): {verdict}")
    for limit in row.limits:
        verdict = "kept" if outcome.keeps(limit) else "PASSED"
        print(f"  limit {limit.at_most} {row.units[limit.figure]}: {verdict}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - a matter of display
