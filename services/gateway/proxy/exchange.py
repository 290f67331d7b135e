"""One request to a service and its answer, with the client's body going up and the answer coming down at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from services.gateway.domain.refusals import BodyTooLarge, RequestTimeout
from services.gateway.proxy.connection import Connection, Timeouts
from services.gateway.proxy.pool import Pool
from shared.errors import Failure

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# A body up to this size is read before a connection to the service is taken, so a slow client holds none.
GATHERED: Final = 64 * 1024


class ClientGone(Exception):
    """The client hung up: nobody is left to answer."""


@dataclass(slots=True)
class Ask:
    """A request as it is sent on: `head` is the request line and the headers, but for the framing."""

    method: str
    head: bytes
    timeouts: Timeouts
    content_length: int | None = None
    has_body: bool = False
    max_body: int = GATHERED
    body_seconds: float = 20.0
    upload_seconds: float = 600.0
    body: bytes = b""
    whole: bool = True

    @property
    def repeatable(self) -> bool:
        """Tell whether a second try can do no harm (RFC 9110, 9.2.2) and has all that it needs."""
        return self.method in {"GET", "HEAD"} and not self.has_body

    async def gather(self, receive: Receive) -> None:
        """Read the body, or the beginning of a long one; raises BodyTooLarge, RequestTimeout, ClientGone."""
        self.whole = False
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.body_seconds):
                while not self.whole and size <= GATHERED:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self.max_body:
                        raise BodyTooLarge(f"The body is larger than the {self.max_body} bytes that are allowed here.")
                    parts.append(part)
                    self.whole = not message.get("more_body", False)
        except TimeoutError:
            raise RequestTimeout from None
        self.body = b"".join(parts)

    @property
    def framed_head(self) -> bytes:
        """The head with its framing, and the part of the body that is there."""
        if not self.has_body:
            return self.head + (b"content-length: 0\r\n\r\n" if self.method in {"POST", "PUT", "PATCH"} else b"\r\n")
        if self.whole:
            return b"%bcontent-length: %d\r\n\r\n%b" % (self.head, len(self.body), self.body)
        if self.content_length is not None:
            return b"%bcontent-length: %d\r\n\r\n%b" % (self.head, self.content_length, self.body)
        return b"%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (self.head, len(self.body), self.body)


class Answer:
    """A service's answer: `status` and `headers` are there, the body is read piece by piece. Close it in any case."""

    __slots__ = ("_ask", "_client", "_closed", "_connection", "_pool", "_receive")

    def __init__(self, connection: Connection, pool: Pool, ask: Ask, receive: Receive) -> None:
        self._connection = connection
        self._pool = pool
        self._ask = ask
        self._receive = receive
        self._client: asyncio.Task[None] | None = None
        self._closed = False

    async def begin(self) -> None:
        """Send the request and wait for the head of the answer."""
        ask = self._ask
        # One that is answered soon needs no timer, and no second task that looks whether its client is gone.
        on_slow = self._keep_watch if ask.whole else None
        self._connection.start(
            ask.framed_head, method=ask.method, whole=ask.whole, timeouts=ask.timeouts, on_slow=on_slow
        )
        if on_slow is None:
            self._keep_watch()
        await self._connection.head()

    @property
    def status(self) -> int:
        """The status code."""
        return self._connection.status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers, names in lower case."""
        return self._connection.headers

    @property
    def complete(self) -> bool:
        """Tell whether the service has said all: `read` then gives the rest at once."""
        return self._connection.complete

    async def read(self) -> bytes:
        """Give the next piece of the body; empty at the end; raises if the service broke off."""
        return await self._connection.read()

    @property
    def is_event_stream(self) -> bool:
        """Tell whether this is an answer that goes on until somebody ends it."""
        return self._connection.is_event_stream

    def cut(self) -> None:
        """End an event stream as if the service had ended it: its client will connect again, elsewhere."""
        self._connection.cut()

    def close(self) -> None:
        """Give the connection back; an answer that is not complete is abandoned."""
        if self._closed:
            return  # somebody else may be using the connection by now
        self._closed = True
        if self._client is not None:
            self._client.cancel()
        self._connection.end()
        self._pool.release(self._connection)

    def _keep_watch(self) -> None:
        self._connection.watch_clock()
        self._client = asyncio.create_task(self._follow_client())

    async def _follow_client(self) -> None:
        """Send on what is left of the body, then wait for the client to hang up."""
        try:
            if not self._ask.whole:
                await self._send_rest()
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except (Failure, ClientGone) as reason:
            self._connection.fail(reason)
        else:
            self._connection.fail(ClientGone())

    async def _send_rest(self) -> None:
        ask, connection = self._ask, self._connection
        chunked = ask.content_length is None
        size = len(ask.body)
        ask.body = b""
        deadline = asyncio.get_running_loop().time() + ask.upload_seconds
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > ask.max_body:
                raise BodyTooLarge(f"The body is larger than the {ask.max_body} bytes that are allowed here.")
            if asyncio.get_running_loop().time() > deadline:
                raise RequestTimeout
            if chunked and part:
                part = b"%x\r\n%b\r\n" % (len(part), part)
            if more and part:
                await connection.send(part)
        connection.finish(part + b"0\r\n\r\n" if chunked else part)
