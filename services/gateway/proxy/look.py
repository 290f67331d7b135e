"""Short questions of the gateway's own to the services: how they are, and what they offer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

import orjson

from services.gateway.proxy.connection import Timeouts
from services.gateway.proxy.exchange import Ask
from services.gateway.proxy.upstream import Upstream
from shared.errors import Failure

T = TypeVar("T")


class Recently:
    """What many may ask for at once and what costs the services something: made once, and given to all who ask soon."""

    def __init__(self) -> None:
        self._made: dict[str, asyncio.Task[Any]] = {}

    async def get(self, name: str, make: Callable[[], Awaitable[T]], *, seconds: float) -> T:
        """Give what was made under this name less than so many seconds ago, or make it; a failure is not kept."""
        task: asyncio.Task[T] | None = self._made.get(name)
        if task is None:
            task = self._made[name] = asyncio.ensure_future(make())
            task.add_done_callback(lambda done: self._keep(name, done, seconds))
        return await asyncio.shield(task)

    def _keep(self, name: str, done: asyncio.Task[Any], seconds: float) -> None:
        if done.cancelled() or done.exception() is not None:
            seconds = 0.0
        asyncio.get_running_loop().call_later(seconds, self._made.pop, name, None)


async def look_at(upstream: Upstream, path: str, *, seconds: float) -> tuple[int, dict[str, Any]] | None:
    """Ask a service for a JSON document: its status and content, or None if there is no such answer in time."""
    head = b"GET %b HTTP/1.1\r\nhost: %b\r\naccept: application/json\r\n" % (path.encode(), upstream.host)
    ask = Ask("GET", head, Timeouts(answer=seconds, idle=seconds))
    try:
        async with asyncio.timeout(seconds):
            answer = await upstream.ask(ask, _nobody)
            try:
                parts = []
                while part := await answer.read():
                    parts.append(part)
                document = orjson.loads(b"".join(parts))
            finally:
                answer.close()
    except (Failure, TimeoutError, orjson.JSONDecodeError):
        return None
    return (answer.status, document) if isinstance(document, dict) else None


async def _nobody() -> MutableMapping[str, Any]:
    """Stand in for a client that stays on the line."""
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}
