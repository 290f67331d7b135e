"""Asking a raw service through the gateway's own client, with a client of the test's own in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from services.gateway.domain.breaker import Breaker
from services.gateway.proxy import Answer, Ask, PoolLimits, Timeouts, Upstream
from tests.gateway.raw import Line, RawService, Script, raw_service


class Client:
    """The client's side of a request: gives the body piece by piece, then stays on the line until it hangs up."""

    def __init__(self, *parts: bytes, more: bool = False) -> None:
        self.parts = list(parts)
        self.more = more
        self.given = 0
        self.gone = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        if self.parts:
            part = self.parts.pop(0)
            self.given += len(part)
            return {"type": "http.request", "body": part, "more_body": bool(self.parts) or self.more}
        await self.gone.wait()
        return {"type": "http.disconnect"}


class EndlessClient(Client):
    """A client whose body has no end."""

    async def receive(self) -> MutableMapping[str, Any]:
        await asyncio.sleep(0)
        self.given += 65_536
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}


PATIENT = Timeouts(answer=60.0, idle=60.0, event_stream_idle=300.0)


def a_request(method: str = "GET", path: str = "/x", *, timeouts: Timeouts = PATIENT, **changes: Any) -> Ask:
    head = f"{method} {path} HTTP/1.1\r\nhost: service\r\n".encode()
    return Ask(method, head, timeouts, **changes)


@asynccontextmanager
async def asking(script: Script, **limits: Any) -> AsyncIterator[tuple[Upstream, RawService]]:
    async with raw_service(script) as service:
        # However long the machine keeps us waiting between two steps of a test.
        patient = {"wait_seconds": 60.0, "connect_seconds": 60.0, "idle_seconds": 60.0}
        upstream = Upstream("service", service.url, PoolLimits(**(patient | limits)), Breaker(threshold=100))
        try:
            yield upstream, service
        finally:
            upstream.pool.close()


def let_pass(upstream: Upstream, seconds: float) -> None:
    """Let the exchanges at hand take it that nothing has moved for so long, and look at their clocks."""
    for connection in list(upstream.pool._taken):
        connection._touched -= seconds
        connection._look_at_clock()


async def whole_body(answer: Answer) -> bytes:
    parts = []
    try:
        while part := await answer.read():
            parts.append(part)
    finally:
        answer.close()
    return b"".join(parts)


async def get(upstream: Upstream, method: str = "GET", path: str = "/x") -> tuple[int, bytes]:
    answer = await upstream.ask(a_request(method, path), Client().receive)
    return answer.status, await whole_body(answer)


def always(answer: bytes) -> Script:
    async def script(line: Line) -> None:
        while True:
            await line.head()
            await line.say(answer)

    return script


def once(answer: bytes) -> Script:
    """Answer the first request of each connection and close it."""

    async def script(line: Line) -> None:
        await line.head()
        await line.say(answer)

    return script
