"""Waits between attempts."""

from __future__ import annotations

import itertools

import pytest

from shared.backoff import Backoff


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("shared.backoff.time.monotonic", lambda: now[0])
    return now


def failures(waits: Backoff, clock: list[float], count: int) -> list[float]:
    """Fail at once after each wait."""
    found = []
    for _ in range(count):
        found.append(waits.seconds())
        clock[0] += found[-1]
    return found


def test_waits_grow_to_a_bound_and_differ(clock: list[float]) -> None:
    longest = (1, 2, 4, 5, 5, 5)
    for waits in (failures(Backoff(), clock, len(longest)) for _ in range(50)):
        assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert len({Backoff().seconds() for _ in range(20)}) > 10, "processes that lost one server must not return as one"


def test_what_held_for_a_while_starts_again_with_a_short_wait(clock: list[float]) -> None:
    waits = Backoff()
    failures(waits, clock, 10)
    clock[0] += 60
    assert waits.seconds() <= 1
    assert waits.seconds() > 0.9


def test_a_failure_that_takes_its_time_is_a_failure(clock: list[float]) -> None:
    waits = Backoff()
    found = []
    for _ in itertools.repeat(None, 6):
        found.append(waits.seconds())
        clock[0] += found[-1] + 5  # as long as connecting to the database may take
    assert found[-1] >= 2.5
