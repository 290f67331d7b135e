"""Just enough HTTP for the stand-in: one request, one response, and a connection that can be cut without an answer."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which lets the application cut it: ASGI itself has no word for that."""

    def on_message_begin(self) -> None:
        """Hand the application the means to cut this connection."""
        super().on_message_begin()
        self.scope["state"]["cut_connection"] = self.transport.abort


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its body read whole."""

    method: str
    path: str
    query: dict[str, str]
    authorization: str
    body: bytes

    @classmethod
    async def read(cls, scope: Scope, receive: Receive) -> "Request":
        """Take the request from the ASGI server."""
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        return cls(scope["method"], scope["path"], query, authorization.decode("latin-1"), body)

    def form(self) -> dict[str, str]:
        """Give the fields of a form body."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Response:
    """One response; `cut` means none at all: the connection ends instead."""

    status: int
    body: bytes
    content_type: bytes = b"text/plain; charset=utf-8"
    retry_after: int | None = None
    cut: bool = False

    @classmethod
    def text(cls, status: int, text: str) -> "Response":
        """Answer in plain text, as Verimor does."""
        return cls(status, text.encode())

    @classmethod
    def json(cls, status: int, content: Any) -> "Response":
        """Answer in JSON, as Twilio does."""
        return cls(status, orjson.dumps(content), b"application/json")

    async def write(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the response to the ASGI server, or cut the connection."""
        if self.cut:
            scope["state"]["cut_connection"]()
            await receive()  # Returns when the connection is gone; until then uvicorn would answer 500 in our place.
            return
        headers = [(b"content-type", self.content_type), (b"content-length", str(len(self.body)).encode())]
        if self.retry_after is not None:
            headers.append((b"retry-after", str(self.retry_after).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


CUT = Response(0, b"", cut=True)
