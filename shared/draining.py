"""A shutdown that loses no request: a server takes its leave of its clients before it closes their connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from array import array
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

# Linux's number for it (asm-generic/socket.h); Python has no name for it.
_SO_ATTACH_FILTER: Final = 26
# A program for the kernel (linux/filter.h): drop the packet that opens a connection (SYN without ACK), pass any other.
_NO_SYN: Final = (
    (0x30, 0, 0, 13),  # load the flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)
# By then a connection that was being opened is open.
_HANDSHAKE_SECONDS: Final = 0.1


class DrainingServer(uvicorn.Server):
    """Says `connection: close` with each answer for a moment, and shuts down as uvicorn does only then.

    uvicorn stops listening and closes idle connections at once, and a request that is on its way into one is lost. So
    for a moment all is served as before, with the farewell: busy clients take to another replica by themselves.
    Closing a listening socket resets the connections that wait to be accepted, so nobody is let in any more and
    the last are accepted first.
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
        await self._say_farewell()
        self._on_end()
        await self._stop_listening()
        await super().shutdown(sockets)

    async def _say_farewell(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._farewell_seconds
        while self.server_state.connections and loop.time() < end:  # noqa: ASYNC110 (uvicorn tells nobody)
            await asyncio.sleep(0.05)

    async def _stop_listening(self) -> None:
        listening = [socket.socket(fileno=os.dup(own.fileno())) for server in self.servers for own in server.sockets]
        for own in listening:
            _let_nobody_in(own)
        await asyncio.sleep(_HANDSHAKE_SECONDS)
        for server in self.servers:
            server.close()
        accepted = [connection for own in listening for connection in _accept_all(own)]
        for connection in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        """Make the protocol of a connection, as uvicorn does it."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _let_nobody_in(listening: socket.socket) -> bool:
    """Leave whoever wants to connect without an answer: they try again a second later, when the door is closed.

    Else one comes between the last that is accepted and the close, and is reset: one in 20 stops under load (measured).
    Where the kernel has no such filter, it stays at that, and this says False.
    """
    program = array("B", b"".join(struct.pack("HBBI", *step) for step in _NO_SYN))
    described = struct.pack("HP", len(_NO_SYN), program.buffer_info()[0])
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        return True
    return False


def _accept_all(listening: socket.socket) -> list[socket.socket]:
    """Accept what waits, and close."""
    accepted = []
    with listening, contextlib.suppress(BlockingIOError):
        listening.setblocking(False)
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            accepted.append(connection)
    return accepted


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
