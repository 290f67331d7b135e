"""One kept-alive connection to a service, which carries one request and its answer at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import httptools

from services.gateway.domain.refusals import RequestTimeout, UpstreamBroken, UpstreamSilent, UpstreamTimeout

MAX_HEAD: Final = 64 * 1024
MAX_INTERIM: Final = 16
# Reading from the service stops while this much waits for the client.
HIGH_WATER: Final = 64 * 1024
_FIRST_FINAL: Final = 200
_STATUSES: Final = range(100, 600)
_LENGTH_KNOWN: Final = frozenset({b"content-length", b"transfer-encoding"})
_CLOCK_SLACK: Final = 0.001


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a service may take, in seconds."""

    answer: float = 30.0
    idle: float = 60.0
    event_stream_idle: float = 300.0


class Connection(asyncio.Protocol):
    """Writes a request, reads its answer, and knows whether it may be used again."""

    def __init__(self, on_closed: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._write_paused = False
        self._busy = False
        self._on_slow: Callable[[], None] | None = None
        self._reusable = True
        self.idle_since = 0.0

    # --- what an exchange asks of it

    def start(
        self, head: bytes, *, method: str, whole: bool, timeouts: Timeouts, on_slow: Callable[[], None] | None = None
    ) -> None:
        """Send the head of a request, with the body if that is there `whole`; a new answer is awaited from now on.

        `on_slow` is called once if the answer is not there soon.
        """
        self._method = method
        self._on_slow = on_slow
        self._timeouts = timeouts
        self._sent = whole
        self._idle_seconds = timeouts.idle
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._heard = False
        self._head_bytes = 0
        self._interim = 0
        self.is_event_stream = False
        self._until_end = True
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._complete = False
        self._failure: Exception | None = None
        self._busy = True
        if self._transport is None or self._transport.is_closing():
            self._failure = UpstreamSilent()  # lost between being handed over and being used
        self._write(head)
        self._touched = self._started = self._loop.time()

    def watch_clock(self) -> None:
        """Keep the time-outs from now on; an exchange that is over at once needs no timer."""
        if self._timer is None:
            self._look_at_clock()

    def notice_if_slow(self, since: float) -> None:
        """Say so, once, if the exchange at hand began before `since`."""
        if self._on_slow is not None and self._started < since:
            on_slow, self._on_slow = self._on_slow, None
            on_slow()

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; waits while the service reads slower than the client writes."""
        self._touched = self._loop.time()
        self._write(data)
        if self._write_paused and self._failure is None and not self._complete:
            self._drained = self._loop.create_future()
            await self._drained
            self._touched = self._loop.time()

    def finish(self, data: bytes) -> None:
        """Send the last piece of the body; from now on the service is expected to answer."""
        self._touched = self._loop.time()
        self._sent = True
        self._write(data)
        if self._timeouts.answer < self._idle_seconds:
            self._rearm(self._timeouts.answer)

    async def head(self) -> None:
        """Wait for `status` and `headers` of the answer; raises what went wrong."""
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self._wait()

    async def read(self) -> bytes:
        """Give what has come of the answer's body, or wait for it; empty at the end; raises if it was cut short."""
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._complete:
                return b""
            await self._wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._waiting_bytes > HIGH_WATER and not self._complete:
            self._resume_reading()
        self._waiting_bytes = 0
        self._touched = self._loop.time()
        return data

    @property
    def complete(self) -> bool:
        """Tell whether the whole answer has come."""
        return self._complete

    @property
    def usable(self) -> bool:
        """Tell whether another request may be sent: the last one is through and both sides keep the connection."""
        return self._reusable and not self._busy and self._transport is not None and not self._transport.is_closing()

    def fail(self, failure: Exception) -> None:
        """End the exchange; whoever waits for the answer gets this failure."""
        if not self._busy or self._complete or self._failure is not None:
            return
        self._failure = failure
        self._wake()
        self.abort()

    def cut(self) -> None:
        """Take what has come for the whole answer."""
        self._reusable = False
        self._complete = True
        self._wake()

    def end(self) -> None:
        """Declare the exchange over; what is half done can't be continued, so the connection is closed then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not (self._complete and self._sent and self._reusable):
            self.abort()
        self._busy = False
        self._on_slow = None
        self.idle_since = self._loop.time()

    def abort(self) -> None:
        """Close at once."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer; bytes that nobody asked for make the connection unfit."""
        if not self._busy or self._complete:
            self.abort()
            return
        self._heard = True
        self._touched = self._loop.time()
        if not self.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            self.fail(UpstreamBroken("The service behind this address answered with something that is not HTTP."))
        if not self.status and self._head_bytes > MAX_HEAD:
            self.fail(UpstreamBroken("The service behind this address answered with too large a head."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection: the end of the answer too, if nothing else marks that, else a failure."""
        self._reusable = False
        if self._busy and not self._complete:
            if self.status and self._until_end and exc is None and self._failure is None:
                self._complete = True
                self._wake()
            else:
                self.fail(UpstreamBroken() if self._heard else UpstreamSilent())
        self._on_closed(self)

    def pause_writing(self) -> None:
        """Note that the service reads slower than we write."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Note that the service has caught up."""
        self._write_paused = False
        self._release_writer()

    # --- httptools callbacks

    def on_message_begin(self) -> None:
        """Never use a connection again on which a second answer to one request begins."""
        if self._complete:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; trailers are dropped."""
        if self.status:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name in _LENGTH_KNOWN:
            self._until_end = False
        elif name == b"content-type" and value.startswith(b"text/event-stream"):
            self.is_event_stream = True
            self._idle_seconds = self._timeouts.event_stream_idle

    def on_headers_complete(self) -> None:
        """Take the head of the answer; interim ones (RFC 9110, 15.2) are skipped."""
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status not in _STATUSES:
            self.fail(UpstreamBroken("The service behind this address answered with a status that HTTP does not know."))
            return
        if status < _FIRST_FINAL:
            self._interim += 1
            self.headers = []
            if self._interim > MAX_INTERIM:
                self.fail(UpstreamBroken("The service behind this address does not come to the point."))
            return
        self.status = status
        self._reusable = self._reusable and self._parser.should_keep_alive()
        if self._timer is not None and self._sent and self._timeouts.answer > self._idle_seconds:
            self._rearm(self._idle_seconds)  # else the clock is looked at early enough by itself
        if self._method == "HEAD":
            # The parser does not know that the announced body won't come, so it can't be used for the next answer.
            self._parser = httptools.HttpResponseParser(self)
            self._complete = True
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body until the client takes it."""
        if self._complete:
            self._reusable = False
            return
        self._chunks.append(data)
        before = self._waiting_bytes
        self._waiting_bytes += len(data)
        if before <= HIGH_WATER < self._waiting_bytes and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """Note that the answer is whole."""
        if not self.status or self._complete:
            return
        self._complete = True
        if self._waiting_bytes > HIGH_WATER:
            self._resume_reading()
        self._wake()

    # --- waiting and time

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._complete or self._failure is not None:
            self._release_writer()

    def _release_writer(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _rearm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look_at_clock)

    def _look_at_clock(self) -> None:
        """Fail an exchange in which nothing moved for too long; called when that could be the case."""
        self._timer = None
        if self._complete:
            return
        allowed = self._idle_seconds if self.status or not self._sent else self._timeouts.answer
        left = self._touched + allowed - self._loop.time()
        if left > _CLOCK_SLACK:
            self._rearm(left)
        elif self._sent or self.status:
            self.fail(UpstreamTimeout())
        else:
            self.fail(UpstreamTimeout() if self._write_paused else RequestTimeout())
