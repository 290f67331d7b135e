"""How a client may send: bounded heads, in bounded time, and nothing that leaves the framing open.

uvicorn over httptools takes 20 MB of headers, 10,000 of them, and waits for them without end (measured). This closes
that, in the place where the bytes come in. Without httptools installed the import fails and the gateway does not start:
uvicorn would fall back to another parser silently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from services.gateway.app.cycle import Cycle
from services.gateway.app.refusal import refusal_answer
from services.gateway.domain.headers import SECURITY_HEADERS
from services.gateway.domain.refusals import HeadRefused, HeadTimeout, HeadTooLarge
from shared.errors import Failure
from shared.telemetry import new_request_id

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
# Requests that a client may send ahead of the answers; more would pile up here.
_MAX_AHEAD: Final = 64
# What a client may go on sending after it was refused, before it is cut off.
_MAX_UNHEARD: Final = 1024 * 1024

Note = Callable[[Failure, str, str], None]


@dataclass(slots=True)
class GuardLimits:
    """What one connection may do; `draining` makes each further answer the last one on its connection."""

    head_bytes: int = 16 * 1024
    head_count: int = 100
    head_seconds: float = 10.0
    linger_seconds: float = 5.0
    unread_seconds: float = 60.0
    newcomer_seconds: float = 1.0
    draining: bool = False


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; it sets no timer for what mostly is over at once (timers were a tenth of all)."""

    limits = GuardLimits()
    note: Note = staticmethod(lambda *_: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running: RequestResponseCycle | None = None  # the cycle that is answered now; `cycle` is the latest read
        self._in_head = False
        self._head_open = True
        self._head_bytes = self._head_count = self._fruitless_bytes = self._unheard_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._body_came = self._request_came = self._refused = False
        self._refusal: Failure | None = None
        self._idle_since: float | None = None

    # The type is as narrow as uvicorn's own.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first head its time; uvicorn alone waits for ever."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self._refuse, HeadTimeout())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers, and tell all who work for this client that it is gone."""
        for timer in (self._head_timer, self._linger_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        if self._running is not None and self._running is not self.cycle:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close soon, as the server stops; not at once where that could cost a request or an answer on its way."""
        if self._linger_timer is not None or self._may_be_asking():
            self.loop.call_later(self.limits.newcomer_seconds, super().shutdown)
        else:
            super().shutdown()

    def say_farewell(self) -> None:
        """Make the answer at hand the last one here, if its head can still say so."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _may_be_asking(self) -> bool:
        """Tell whether a request may be on its way: begun, or on a connection that was opened or answered just now."""
        if self._refused:
            return False
        just_now = self.loop.time() - self.limits.newcomer_seconds
        answered = self._idle_since is not None and self._idle_since > just_now
        return self._in_head or self.cycle is None or answered

    def close_if_idle(self, since: float) -> None:
        """Close a connection on which nothing was asked since then."""
        if self._idle_since is not None and self._idle_since < since:
            self.transport.close()

    # --- what comes in

    def data_received(self, data: bytes) -> None:
        """Parse, and count what is neither a finished head nor body."""
        if self._refused:
            self._unheard_bytes += len(data)
            if self._unheard_bytes > _MAX_UNHEARD:
                self.transport.abort()
            return
        self._idle_since = None
        self._body_came = self._request_came = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the wish to upgrade is ignored (RFC 9110, 7.8); `on_headers_complete` saw to it that no body follows
        except httptools.HttpParserError:
            self._refuse(self._refusal or HeadRefused())
            return
        if self._head_timer is None and (self._in_head or (self._head_open and not self._request_came)):
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._refuse, HeadTimeout())
        if not self._body_came:
            # An endless header, trailer or chunk extension: the parser would collect or skip it without end.
            self._fruitless_bytes += len(data)
            if self._fruitless_bytes > self.limits.head_bytes + 65_536:
                self._refuse(HeadTooLarge())

    def on_message_begin(self) -> None:
        """Start counting for a new head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._head_count = self._fruitless_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; drop trailers, which uvicorn would append to the headers of the running request."""
        if not self._in_head:
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
        self._in_head = self._head_open = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._head_bytes > self.limits.head_bytes or self._head_count > self.limits.head_count:
            self._stop(HeadTooLarge())
        if not self.url.startswith(b"/") or b"#" in self.url:
            # Absolute form, authority form, '*': the first two name a host of their own. A fragment is never sent.
            self._stop(HeadRefused())
        upgrade = self.parser.should_upgrade()
        if (upgrade and any(name in _FRAMING for name, _ in self.headers)) or len(self.pipeline) >= _MAX_AHEAD:
            self._stop(HeadRefused())  # after an upgrade the parser would take the body for the next request
        self._begin(keep_alive=not upgrade and not self.limits.draining and self.parser.should_keep_alive())

    def _begin(self, *, keep_alive: bool) -> None:
        """Hand the request over; what uvicorn does at this place, with our way to answer."""
        self._idle_since = None
        scope: Any = self.scope
        version = scope["http_version"] = self.parser.get_http_version()
        scope["method"] = self.parser.get_method().decode("ascii")
        url = httptools.parse_url(self.url)
        scope["raw_path"] = url.path
        scope["path"] = unquote(url.path.decode("ascii"))
        scope["query_string"] = url.query or b""
        waits = self.cycle is not None and not self.cycle.response_complete
        self.cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive and version != "1.0",
            on_response=self.on_response_complete,
        )
        if waits:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Note that the bytes that came were good for something."""
        self._body_came = True
        self._fruitless_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole and a further one may come."""
        super().on_message_complete()
        self._head_open = self._request_came = True
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
            self._idle_since = self.loop.time()

    # --- what goes out

    def on_response_complete(self) -> None:
        """Take up the next request, or wait for one; an answer that came before the end of the body is a case apart.

        Closing with unread bytes makes the kernel send a reset, which can overtake the answer (RFC 9112, 9.6): so we
        read on for a moment.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.cycle.more_body:
            self._linger_timer = self.loop.call_later(self.limits.linger_seconds, self.transport.close)
        else:
            self._idle_since = self.loop.time()

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

    # --- refusals

    def _stop(self, refusal: Failure) -> None:
        """End parsing; the parser swallows what is raised, so the reason is kept beside it."""
        self._refusal = refusal
        raise refusal

    def _refuse(self, failure: Failure) -> None:
        """Hear no more of this client, and tell it why; a good request that is under way is answered first."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        request_id = new_request_id()
        self.note(failure, request_id, self.client[0] if self.client else "")
        if self._linger_timer is not None:
            self.transport.close()  # its answer is out already, and this is the rest of its body
            return
        if self._running is not None and not self._running.response_complete:
            if self._in_head or self._head_open or self._running is not self.cycle:
                # What is refused came behind it. Our refusal would be taken for its answer, so there is none.
                self._running.keep_alive = False
                self.pipeline.clear()
                return
            if self._running.response_started:
                self.transport.abort()  # a refusal can't be put into the middle of an answer
                return
            self._running.disconnected = True  # whoever works on the request is told that nobody waits for it
            self._running.message_event.set()
        status, headers, body = refusal_answer(failure, request_id)
        headers = [*headers, (b"x-request-id", request_id.encode()), *SECURITY_HEADERS, (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *headers)]
        self.transport.write(b"".join((STATUS_LINE[status], *lines, b"\r\n", body)))
        self.transport.write_eof()  # and read on for a moment, or a reset may overtake the answer, as above
        self._linger_timer = self.loop.call_later(self.limits.linger_seconds, self.transport.close)


def guarded(limits: GuardLimits, note: Note) -> type[GuardedProtocol]:
    """Make a protocol with these limits, which tells `note` what it refused; uvicorn wants a class."""
    return type("Guarded", (GuardedProtocol,), {"limits": limits, "note": staticmethod(note)})
