"""A circuit breaker: a service that keeps failing is left alone for a while, then tried with one request."""

from __future__ import annotations

from math import ceil


class Breaker:
    """Opens after `threshold` failures in a row; each failed trial doubles the pause, up to `max_seconds`."""

    __slots__ = ("_failures", "_first_seconds", "_max_seconds", "_open_until", "_seconds", "_threshold", "_trying")

    def __init__(self, *, threshold: int = 5, first_seconds: float = 1.0, max_seconds: float = 15.0) -> None:
        self._threshold = threshold
        self._first_seconds = self._seconds = first_seconds
        self._max_seconds = max_seconds
        self._failures = 0
        self._open_until = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Tell whether requests are refused, but for one trial."""
        return self._failures >= self._threshold

    def wait_seconds(self, now: float) -> int:
        """Say how long to wait before a request may go through; 0: go (and tell how it went)."""
        if self._failures < self._threshold:
            return 0
        if now >= self._open_until and not self._trying:
            self._trying = True
            return 0
        return max(1, ceil(self._open_until - now))

    def succeeded(self) -> None:
        """Note that the service answered, whatever its status."""
        if self._failures:
            self._failures = 0
            self._seconds = self._first_seconds
        self._trying = False

    def failed(self, now: float) -> None:
        """Note that the service could not be reached, broke off or did not answer in time."""
        self._failures += 1
        if self._failures < self._threshold:
            return
        if self._trying:
            self._seconds = min(self._seconds * 2, self._max_seconds)
        self._trying = False
        self._open_until = now + self._seconds

    def undecided(self) -> None:
        """Note that the client went away before the service could show how it is."""
        self._trying = False
