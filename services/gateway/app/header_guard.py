"""How a client may send: bounded heads, in bounded time, and nothing that leaves the framing open.

uvicorn over httptools takes 20 MB of headers, 10,000 of them, and waits for them without end (measured). This closes
that, in the place where the bytes come in. Without httptools installed the import fails and the gateway does not start:
uvicorn would fall back to another parser silently.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.gateway.app.refusal import refusal_answer
from services.gateway.domain.refusals import HeadRefused, HeadTimeout, HeadTooLarge
from shared.errors import Failure
from shared.telemetry import new_request_id

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(slots=True)
class GuardLimits:
    """What one connection may do; `draining` makes each further answer the last one on its connection."""

    head_bytes: int = 16 * 1024
    head_count: int = 100
    head_seconds: float = 10.0
    linger_seconds: float = 5.0
    unread_seconds: float = 60.0
    draining: bool = False


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits."""

    limits = GuardLimits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_open = True
        self._head_bytes = self._head_count = self._fruitless_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._body_came = self._refused = False
        self._refusal: Failure | None = None

    # The type is as narrow as uvicorn's own.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first head its time; uvicorn alone waits for ever."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self._refuse, HeadTimeout())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        for timer in (self._head_timer, self._linger_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count what is neither a finished head nor body."""
        if self._refused:
            return
        if self._head_open and self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._refuse, HeadTimeout())
        self._body_came = False
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the wish to upgrade is ignored (RFC 9110, 7.8); `on_headers_complete` saw to it that no body follows
        except httptools.HttpParserError:
            self._refuse(self._refusal or HeadRefused())
            return
        if not self._body_came:
            # An endless header, trailer or chunk extension: the parser would collect or skip it without end.
            self._fruitless_bytes += len(data)
            if self._fruitless_bytes > self.limits.head_bytes + 65_536:
                self._refuse(HeadTooLarge())

    def on_message_begin(self) -> None:
        """Start counting for a new head."""
        super().on_message_begin()
        self._head_open = True
        self._head_bytes = self._head_count = self._fruitless_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; drop trailers, which uvicorn would append to the headers of the running request."""
        if not self._head_open:
            return
        self._head_bytes += len(name) + len(value) + 4
        self._head_count += 1
        # As uvicorn does it, without a second call per header.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Let a whole head through, or refuse it."""
        self._head_open = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._head_bytes > self.limits.head_bytes or self._head_count > self.limits.head_count:
            self._stop(HeadTooLarge())
        if not self.url.startswith(b"/"):
            self._stop(HeadRefused())  # absolute form, authority form, '*': the first two name a host of their own
        upgrade = self.parser.should_upgrade()
        if upgrade and any(name in _FRAMING for name, _ in self.headers):
            self._stop(HeadRefused())  # the parser would take the body for the next request
        super().on_headers_complete()
        if upgrade or self.limits.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Note that the bytes that came were good for something."""
        self._body_came = True
        self._fruitless_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole and a further one may come."""
        super().on_message_complete()
        self._head_open = True
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._refuse, HeadTimeout())

    def on_response_complete(self) -> None:
        """Read on for a moment after an answer that came before the end of the body, or the client may never see it.

        Closing with unread bytes makes the kernel send a reset, which can overtake the answer (RFC 9112, 9.6).
        """
        early = self.cycle.response_complete and self.cycle.more_body
        super().on_response_complete()
        if early and not self.transport.is_closing():
            self._linger_timer = self.loop.call_later(self.limits.linger_seconds, self.transport.close)

    def pause_writing(self) -> None:
        """Give a client that reads slowly its time; one that stops reading is dropped."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _stop(self, refusal: Failure) -> None:
        """End parsing; the parser swallows what is raised, so the reason is kept beside it."""
        self._refusal = refusal
        raise refusal

    def _refuse(self, failure: Failure) -> None:
        """Answer and close; an answer that is under way is cut instead, since ours can't be put into its middle."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True  # whoever works on the request is told that nobody waits for it
            self.cycle.message_event.set()
        status, headers, body = refusal_answer(failure, new_request_id())
        lines = [b"%b: %b\r\n" % header for header in (*headers, (b"connection", b"close"))]
        self.transport.write(b"".join((STATUS_LINE[status], *lines, b"\r\n", body)))
        self.transport.close()


def guarded(limits: GuardLimits) -> type[GuardedProtocol]:
    """Make a protocol with these limits; uvicorn wants a class."""

    class Guarded(GuardedProtocol):
        """The guarded protocol of one server."""

    Guarded.limits = limits
    return Guarded
