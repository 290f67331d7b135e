"""Waiting for what happens elsewhere, without sleeping longer than needed."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(condition: Callable[[], Awaitable[T]], *, within: float = 60.0, what: str = "it") -> T: ...


@overload
async def eventually(condition: Callable[[], T], *, within: float = 60.0, what: str = "it") -> T: ...


async def eventually(condition: Callable[[], Any], *, within: float = 60.0, what: str = "it") -> Any:
    """Wait until the condition gives something true and return that; fails after `within` seconds.

    A wait costs what it takes: so much is for a machine that has other things to do.
    """
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {within:.0f} s; the last answer was {answer!r}")
        await asyncio.sleep(0.05)
