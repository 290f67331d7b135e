"""How long to wait before trying again: longer after each failure, up to a bound, and not all at the same moment."""

from __future__ import annotations

import random
import time
from typing import Final

_FIRST_SECONDS: Final = 1.0
_MOST_SECONDS: Final = 5.0


class Backoff:
    """The waits of one thing that is tried again and again.

    From half a second to five. What held for longer than that before it failed starts again with the shortest wait, so
    that nobody has to say when it went well.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._last = time.monotonic()

    def seconds(self) -> float:
        """Say how long to wait after one more failure."""
        if time.monotonic() - self._last > 2 * _MOST_SECONDS:
            self._failures = 0
        longest = min(_FIRST_SECONDS * 2.0**self._failures, _MOST_SECONDS)
        self._failures = min(self._failures + 1, 10)
        wait = random.uniform(longest / 2, longest)
        self._last = time.monotonic() + wait
        return wait
