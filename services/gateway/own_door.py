"""The gateway's own door, called from inside: the console passes the same checks and limits as any client.

In process, because a second connection to ourselves would need an address and lose the caller's; what comes back is
handed on piece by piece, so that an export or a stream of events is held in memory nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from shared.errors import Failure

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Application = Callable[[Any, Receive, Callable[[Message], Awaitable[None]]], Awaitable[None]]

# What is read whole is a page of a list or one record.
_MOST_BYTES: Final = 16 * 1024 * 1024


class AnswerBroken(Failure):
    """The answer ended before its end."""

    status, title = 502, "Bad Gateway"
    code, message = "ANSWER_BROKEN", "The service behind this page broke off its answer."


@dataclass(frozen=True, slots=True)
class Call:
    """A request as a client would send it: the path as it stands in a request line, header names in lower case."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    address: str = ""
    scheme: str = "http"


@dataclass(slots=True)
class Answer:
    """Status and headers, and the body unless it is read piece by piece."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


class OwnDoor:
    """Calls the gateway's application."""

    def __init__(self, door: Application, *, unread_seconds: float = 60.0) -> None:
        self._door = door
        self._unread_seconds = unread_seconds

    async def ask(self, call: Call, body: bytes = b"", *, receive: Receive | None = None) -> Answer:
        """Give the whole answer; `receive` gives a body that comes in pieces. Raises AnswerBroken."""
        answer, parts, whole = Answer(), bytearray(), False

        async def send(message: Message) -> None:
            nonlocal whole
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], dict(message["headers"])
                return
            parts.extend(message.get("body", b""))
            whole = not message.get("more_body", False)
            if len(parts) > _MOST_BYTES:
                raise AnswerBroken

        await self._door(_scope(call, body), receive or _once(body), send)
        if not whole:
            raise AnswerBroken
        answer.body = bytes(parts)
        return answer

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """Give the head of an answer and its pieces, as they come and no faster than they are read.

        Whoever stops reading without a word, for as long as a client may, is taken to be gone.
        """
        stream = _Stream(self._unread_seconds)
        task = asyncio.create_task(stream.run(self._door, _scope(call, b"")), name=f"own door {call.path}")
        try:
            await stream.begun.wait()
            if not stream.answer.status:
                raise AnswerBroken
            yield stream.answer, stream.read(task)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class _Stream:
    """An answer on its way from the door to its reader."""

    def __init__(self, unread_seconds: float) -> None:
        self.answer = Answer()
        self.begun = asyncio.Event()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._unread_seconds = unread_seconds
        self._whole = False

    async def run(self, door: Application, scope: dict[str, Any]) -> None:
        try:
            await door(scope, _once(b""), self._send)
        finally:
            self.begun.set()
        await self._pieces.put(None)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answer.status, self.answer.headers = message["status"], dict(message["headers"])
            self.begun.set()
            return
        if part := message.get("body", b""):
            try:
                async with asyncio.timeout(self._unread_seconds):
                    await self._pieces.put(part)
            except TimeoutError:
                raise asyncio.CancelledError from None  # as if the client had hung up
        self._whole = not message.get("more_body", False)

    async def read(self, task: asyncio.Task[None]) -> AsyncIterator[bytes]:
        while not (task.done() and self._pieces.empty()):
            piece = await self._pieces.get()
            if piece is None:
                break
            yield piece
        if not self._whole:
            raise AnswerBroken


def _scope(call: Call, body: bytes) -> dict[str, Any]:
    headers = [(b"host", b"console"), *call.headers]
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": call.method,
        "path": unquote(call.path),
        "raw_path": call.path.encode("ascii"),
        "query_string": call.query,
        "root_path": "",
        "headers": headers,
        "client": (call.address, 0),
        "server": ("console", 0),
        "scheme": call.scheme,
    }


def _once(body: bytes) -> Receive:
    """Give the body, then stay on the line."""
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            await asyncio.Event().wait()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
