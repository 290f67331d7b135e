"""Holding back whoever tries the public links too often from one address."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final

_REMEMBERED: Final = 10_000


class Throttle:
    """So many attempts a minute per address, in this process; the gateway has limits of its own in front of it."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_for(self, address: str) -> float:
        """Count an attempt; gives the seconds to wait before it may be made, 0 when it may be made now."""
        now = self._clock()
        left, since = self._left.pop(address, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - since) * self._per_minute / 60)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / self._per_minute
        self._left[address] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return wait
