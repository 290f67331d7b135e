"""The connections to one service: a bounded number of them, and a bounded queue for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Final

from services.gateway.domain.refusals import UpstreamAway, UpstreamBusy
from services.gateway.proxy.connection import Connection

# How often the pool looks which exchanges have been going on for so long: one timer for all.
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much one service may be asked to do at once.

    `idle_seconds` stays below the five seconds after which uvicorn closes an idle connection, so that a request is
    hardly ever sent into a connection that the service is just closing.
    """

    connections: int = 100
    waiting: int = 1_000
    wait_seconds: float = 5.0
    connect_seconds: float = 2.0
    idle_seconds: float = 3.0


class Pool:
    """Gives out connections, the one used last first, and takes them back."""

    def __init__(self, host: str, port: int, limits: PoolLimits) -> None:
        self._address = (host, port)
        self._limits = limits
        self._idle: list[Connection] = []
        self._taken: set[Connection] = set()
        self._opening = 0
        self._look: asyncio.TimerHandle | None = None
        # Whoever waits gets a connection, or None: leave to open one.
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()

    @property
    def in_use(self) -> int:
        """How many connections carry a request."""
        return len(self._taken) + self._opening

    @property
    def idle(self) -> int:
        """How many connections are open and free."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._waiting)

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """Take a connection, a newly opened one if `fresh`; raises UpstreamBusy or UpstreamAway."""
        if self._look is None:
            self._look_again()
        if fresh:
            self._drop_idle()
        elif connection := self._pop_idle():
            self._taken.add(connection)
            return connection
        if self.in_use >= self._limits.connections:
            given = await self._wait_in_line()
            if given is not None:
                return given
        else:
            self._opening += 1
        return await self._open()

    def release(self, connection: Connection) -> None:
        """Take a connection back; it goes to whoever waits, or is kept if it can be used again."""
        if connection not in self._taken:
            return  # it was lost meanwhile, and its place is given on already
        if not connection.usable:
            connection.abort()
            self._taken.discard(connection)
            self._give_place()
            return
        if waiter := self._next_waiter():
            waiter.set_result(connection)
            return
        self._taken.discard(connection)
        self._idle.append(connection)

    def close(self) -> None:
        """Close every connection."""
        self._drop_idle()
        for connection in list(self._taken):
            connection.abort()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_for_slow(self) -> None:
        self._look = None
        if not self.in_use:
            return
        since = asyncio.get_running_loop().time() - _LOOK_SECONDS
        for connection in list(self._taken):
            connection.notice_if_slow(since)
        self._look_again()

    def _look_again(self) -> None:
        self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_for_slow)

    def _pop_idle(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - self._limits.idle_seconds
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    async def _wait_in_line(self) -> Connection | None:
        """Wait for a connection, or for leave to open one (then `_opening` counts us already)."""
        if len(self._waiting) >= self._limits.waiting:
            raise UpstreamBusy(retry_after=1)
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                return await waiter
        except BaseException as reason:
            self._leave_line(waiter)
            if isinstance(reason, TimeoutError):
                raise UpstreamBusy(retry_after=1) from None
            raise

    def _leave_line(self, waiter: asyncio.Future[Connection | None]) -> None:
        if waiter.done() and not waiter.cancelled():  # it was served in the moment in which it gave up
            connection = waiter.result()
            if connection is None:
                self._opening -= 1
                self._give_place()
            else:
                self.release(connection)
            return
        with contextlib.suppress(ValueError):
            self._waiting.remove(waiter)

    async def _open(self) -> Connection:
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._forget), *self._address
                )
        except BaseException as reason:
            self._opening -= 1
            self._give_place()
            if isinstance(reason, OSError):  # TimeoutError and the resolver's errors are OSErrors too
                raise UpstreamAway(retry_after=2) from reason
            raise
        self._opening -= 1
        self._taken.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        """Drop a connection that is gone, whoever closed it."""
        if connection in self._taken:
            self._taken.discard(connection)
            self._give_place()
        elif connection in self._idle:
            self._idle.remove(connection)

    def _give_place(self) -> None:
        """Let the first in line open a connection, now that there is one less."""
        if self.in_use < self._limits.connections and (waiter := self._next_waiter()):
            self._opening += 1
            waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None
