"""A shutdown that loses no request: a server takes its leave of its clients before it closes their connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Says `connection: close` with each answer for a moment, and shuts down as uvicorn does only then.

    uvicorn closes idle connections at once, and a request that is on its way into one is lost. Clients that are busy
    follow the farewell instead; new connections go to another replica.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        farewell_seconds: float,
        *,
        on_farewell: Callable[[], None],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._farewell_seconds = farewell_seconds
        self._on_farewell = on_farewell
        self._on_end = on_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then shut down as uvicorn does."""
        log.info("draining: each answer is the last one on its connection")
        self._on_farewell()
        for server in self.servers:
            server.close()
        await self._say_farewell()
        self._on_end()
        await super().shutdown(sockets)

    async def _say_farewell(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._farewell_seconds
        while self.server_state.connections and loop.time() < end:  # noqa: ASYNC110 (uvicorn tells nobody)
            await asyncio.sleep(0.05)


class Farewell:
    """An application whose answers, once `said`, are each the last on their connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._said = False

    def say(self) -> None:
        """Take leave from now on."""
        self._said = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def with_farewell(message: Message) -> None:
            if self._said and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, with_farewell if scope["type"] == "http" else send)
