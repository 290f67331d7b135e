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

    def __init__(self, door: Application) -> None:
        self._door = door

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
        """Give the head of an answer and its pieces, as they come and no faster than they are read."""
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        answer, begun, whole = Answer(), asyncio.Event(), False

        async def send(message: Message) -> None:
            nonlocal whole
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], dict(message["headers"])
                begun.set()
                return
            if part := message.get("body", b""):
                await pieces.put(part)
            whole = not message.get("more_body", False)

        async def run() -> None:
            await self._door(_scope(call, b""), _once(b""), send)
            begun.set()
            await pieces.put(None)

        async def read() -> AsyncIterator[bytes]:
            while (piece := await pieces.get()) is not None:
                yield piece
            if not whole:
                raise AnswerBroken

        task = asyncio.create_task(run(), name=f"own door {call.path}")
        try:
            await begun.wait()
            if not answer.status:
                raise AnswerBroken
            yield answer, read()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


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
