"""A service made of a bare socket, so that it can misbehave; and a client that sends exactly the bytes of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httptools

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Line:
    """One connection to the raw service, and the requests that came over it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    requests: list[bytes] = field(default_factory=list)

    async def head(self) -> bytes:
        """Read the head of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        return head

    async def say(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()


Script = Callable[[Line], Awaitable[None]]


class RawService:
    """A raw service: what came to it, and how to stop and start it."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self.port = 0
        self.lines: list[Line] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def heads(self) -> list[bytes]:
        """Every request head that came, over all connections."""
        return [head for line in self.lines for head in line.requests]

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._server is not None:
            self._server.close()
        for line in self.lines:
            line.writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer, len(self.lines))
        self.lines.append(line)
        try:
            await self._script(line)
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            pass  # the other side hung up, or we did, as the tests want it to
        finally:
            writer.close()


@asynccontextmanager
async def raw_service(script: Script) -> AsyncIterator[RawService]:
    """Run the script for each connection; it ends with its connection."""
    service = RawService(script)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


class _Heard:
    """Counts whole answers."""

    def __init__(self) -> None:
        self.answers = 0

    def on_message_complete(self) -> None:
        self.answers += 1


async def send_raw(port: int, data: bytes, *, answers: int = 1, seconds: float = 60.0) -> bytes:
    """Send bytes and read so many answers, each piece of which may take so long, and what comes behind them.

    That is over when the other side closes, or has said nothing for a moment: there is no other sign of what does not
    come.
    """
    heard = _Heard()
    parser = httptools.HttpResponseParser(heard)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(data)
        while chunk := await asyncio.wait_for(reader.read(65_536), seconds if heard.answers < answers else 0.3):
            received += chunk
            if heard.answers < answers:
                parser.feed_data(chunk)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return received
