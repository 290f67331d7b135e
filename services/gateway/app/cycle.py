"""How an answer goes out: head and first piece in one write, framed so that the client can read it."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from shared.errors import Failure

_BODILESS = frozenset({204, 304})


class Cycle(RequestResponseCycle):
    """uvicorn's request and answer with another way out.

    uvicorn writes the head by itself (a system call of its own), searches every header twice, and sends chunks to
    clients of HTTP/1.0, which know none.
    """

    _head = b""

    async def run_asgi(self, app: Any) -> None:
        """Let the application answer; an answer that stays incomplete is cut, which its client can tell."""
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            if not self.response_complete and not self.disconnected:
                self.transport.close()
            self.on_response = lambda: None

    async def send(self, message: Any) -> None:
        """Take a part of the answer; the head waits for the first piece of the body, which may be empty."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._head = self._framed_head(message["status"], message["headers"])
            self.response_started = True
            self.waiting_for_100_continue = False
            return
        more = message.get("more_body", False)
        data = self._framed(message.get("body", b""), more=more)
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self.transport.write(data)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _framed_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        parts = [STATUS_LINE[status]]
        sized = self.scope["method"] == "HEAD" or status in _BODILESS
        self.chunked_encoding = False
        lines = len(headers) + len(self.default_headers) + 2
        for name, value in self.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            if name == b"content-length":
                sized = True
            elif name == b"connection":
                self.keep_alive = False  # the gateway says nothing else in this header than "close"
            parts += (name, b": ", value, b"\r\n")
        if not sized:
            if self.scope["http_version"] == "1.0":
                self.keep_alive = False  # the end of the connection is the end of the answer
            else:
                self.chunked_encoding = True
                parts.append(b"transfer-encoding: chunked\r\n")
                lines += 1
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
            lines += 1
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != lines:
            raise Failure("A header of the answer holds a line break.")
        return head

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        if self.scope["method"] == "HEAD":
            return b""
        if not self.chunked_encoding:
            return body
        if not body:
            return b"" if more else b"0\r\n\r\n"
        return b"%x\r\n%b\r\n%b" % (len(body), body, b"" if more else b"0\r\n\r\n")
