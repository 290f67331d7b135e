"""What a process knows of its own state; readiness is red while any part is."""

from __future__ import annotations

import logging

from prometheus_client import Gauge

log = logging.getLogger(__name__)

HEALTHY = Gauge("part_healthy", "1 while this part of the process works", ["part"])


class Health:
    """The parts of a process and how they are."""

    def __init__(self) -> None:
        self._problems: dict[str, str | None] = {}
        self._notes: dict[str, str] = {}

    def expect(self, part: str, note: str = "starting") -> None:
        """Name a part that must work before the process is ready."""
        self._problems.setdefault(part, note)

    def ok(self, part: str, note: str = "ok") -> None:
        """Report that a part works."""
        if self._problems.get(part, "") is not None:
            log.info("%s: %s", part, note)
        self._problems[part] = None
        self._notes[part] = note
        HEALTHY.labels(part).set(1)

    def fail(self, part: str, problem: str) -> None:
        """Report that a part does not work, and why; said once per change in the log."""
        if self._problems.get(part) != problem:
            log.warning("%s: %s", part, problem)
        self._problems[part] = problem
        HEALTHY.labels(part).set(0)

    @property
    def is_ready(self) -> bool:
        """Say whether every part works."""
        return all(problem is None for problem in self._problems.values())

    def report(self) -> dict[str, str]:
        """Give each part's state in words."""
        return {part: problem or self._notes.get(part, "ok") for part, problem in sorted(self._problems.items())}
