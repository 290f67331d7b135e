"""The way of every request: one plain ASGI application, no framework in between (measured: ten times cheaper)."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Container, MutableMapping
from typing import Any, Final

from prometheus_client import Histogram

from services.gateway.app.access_log import AccessLog
from services.gateway.app.visit import HUNG_UP, Visit
from services.gateway.context import Gateway
from services.gateway.domain.addresses import client_address
from services.gateway.domain.headers import Header, Incoming, read_headers, relayed_headers, request_head
from services.gateway.domain.limits import address_key
from services.gateway.domain.paths import check_path
from services.gateway.domain.refusals import (
    BodyTooLarge,
    OnlyFromInside,
    SessionRevoked,
    TokenMissing,
    TooOften,
    UnknownArea,
)
from services.gateway.domain.revocations import Claims
from services.gateway.domain.routing import METHODS, Limit, Route, Terms, find_route
from services.gateway.proxy import Answer, Ask, ClientGone
from shared import telemetry
from shared.errors import Failure, MethodNotAllowed

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

SECONDS: Final = Histogram("gateway_request_seconds", "Time to the end of the answer", ["route", "method", "status"])
_INSIDE_ONLY: Final = frozenset({b"/metrics"})
_BODILESS: Final = frozenset({204, 304})
_UNLIMITED: Final = frozenset({b"/healthz", b"/readyz", b"/metrics"})
_VARY: Final[tuple[Header, ...]] = ((b"vary", b"origin"),)
_PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", ", ".join(METHODS).encode()),
    (b"access-control-allow-headers", b"authorization, content-type, idempotency-key, x-request-id"),
    (b"access-control-max-age", b"600"),
)


class Door:
    """Checks each request, sends it on and relays the answer; `pages` answers the gateway's own `addresses`."""

    def __init__(self, gateway: Gateway, pages: Application, addresses: Container[bytes], access: AccessLog) -> None:
        self._gateway = gateway
        self._pages = pages
        self._addresses = addresses
        self._access = access
        self._streams: set[Answer] = set()
        self._histograms: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request (or the life of the application)."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        visit = Visit(scope, send, "")
        try:
            await self._serve(visit, scope, receive)
        except Failure as failure:
            await visit.refuse(failure)
        except ClientGone:
            pass
        except Exception:
            log.exception("a request failed in a way that nobody foresaw", extra={"request_id": visit.request_id})
            await visit.refuse(Failure())
        finally:
            self._note(visit)

    def cut_streams(self) -> None:
        """End the event streams, whose clients connect again: they would hold a shutdown up for minutes."""
        for answer in self._streams:
            answer.cut()

    def say_draining(self) -> None:
        """Let readiness be red from now on."""
        self._gateway.health.fail("draining", "this gateway is about to stop")

    def note_unread(self, failure: Failure, request_id: str, address: str) -> None:
        """Count and log what the guard refused: bytes that never became a request."""
        self._seconds("none", "other", failure.status).observe(0.0)
        facts = {
            "request_id": request_id,
            "route": "none",
            "status": failure.status,
            "address": address,
            "problem": failure.code,
            "detail": failure.message,
        }
        self._access.add(time.time(), f"no request {failure.status}", facts)

    async def _serve(self, visit: Visit, scope: Any, receive: Receive) -> None:
        try:
            incoming = read_headers(scope["headers"], http_version=scope["http_version"])
        except Failure:
            visit.request_id = telemetry.new_request_id()
            raise
        self._recognise(visit, incoming)
        check_path(visit.path)
        if visit.path in self._addresses:
            await self._show_page(visit, incoming, scope, receive)
            return
        route = self._find_route(visit)
        visit.label = route.terms.label
        if visit.method not in METHODS:
            raise MethodNotAllowed
        if self._is_preflight(visit, incoming):
            self._take(visit, "address", address_key(visit.address))
            await visit.begin(204, [])
            await visit.last()
            return
        await self._admit(visit, incoming, route.terms)
        await self._forward(visit, incoming, route, scope, receive)

    def _recognise(self, visit: Visit, incoming: Incoming) -> None:
        """Note the request's id and where it comes from, and whether its page may read the answer."""
        request_id = incoming.get(b"x-request-id")
        visit.request_id = telemetry.sane_request_id(None if request_id is None else request_id.decode("latin-1"))
        gateway = self._gateway
        if gateway.proxies.include(visit.address):
            visit.address = client_address(visit.address, incoming.get(b"x-forwarded-for"), gateway.proxies)
            if incoming.get(b"x-forwarded-proto") == b"https":
                visit.scheme = b"https"
        origin = incoming.get(b"origin")
        if origin is not None and gateway.origins:
            visit.cors = _cors(origin) if origin in gateway.origins else _VARY

    def _find_route(self, visit: Visit) -> Route:
        try:
            return find_route(visit.path)
        except UnknownArea:
            self._take(visit, "address", address_key(visit.address))  # whoever searches is counted too
            raise

    def _is_inside(self, visit: Visit, incoming: Incoming) -> bool:
        """Tell whether operators ask; the address of an unknown proxy says nothing of who is behind it."""
        told = incoming.get(b"x-forwarded-for") is None or self._gateway.proxies.include(visit.peer)
        return told and self._gateway.operators.include(visit.address)

    def _is_preflight(self, visit: Visit, incoming: Incoming) -> bool:
        """Tell whether a browser asks for leave; an origin that is not listed gets none, by silence."""
        if visit.method != "OPTIONS" or incoming.get(b"access-control-request-method") is None:
            return False
        if len(visit.cors) > len(_VARY):
            visit.cors += _PREFLIGHT
        return True

    async def _admit(self, visit: Visit, incoming: Incoming, terms: Terms) -> None:
        """Let the caller in: by address, and unless the route is public by token and by account."""
        address = address_key(visit.address)
        self._take(visit, terms.limit if terms.public else "address", address)
        if terms.public:
            return
        token = incoming.bearer
        if token is None:
            raise TokenMissing
        principal = await self._gateway.verifier.verify(token)
        visit.account_id = principal.id
        revocations = self._gateway.revocations
        if revocations and revocations.refuse(
            Claims(principal.id, principal.session_id, principal.roles, principal.on_behalf_of, principal.issued_at)
        ):
            raise SessionRevoked
        self._take(visit, terms.limit, principal.id)

    def _take(self, visit: Visit, limit: Limit, key: str | int) -> None:
        allowance = self._gateway.buckets[limit].take(key, time.monotonic())
        visit.limits = allowance
        if not allowance.allowed:
            raise TooOften(retry_after=allowance.reset_seconds)

    async def _forward(self, visit: Visit, incoming: Incoming, route: Route, scope: Any, receive: Receive) -> None:
        terms, settings = route.terms, self._gateway.settings
        upstream = self._gateway.upstreams[route.upstream]
        length = incoming.content_length
        if length is not None and length > terms.max_body:
            raise BodyTooLarge(f"The body has {length} bytes; {terms.max_body} are allowed here.", limit=terms.max_body)
        host = incoming.get(b"host") or upstream.host
        ours = (
            (b"x-request-id", visit.request_id.encode()),
            (b"x-forwarded-for", visit.address.encode()),
            (b"x-forwarded-proto", visit.scheme),
            (b"x-forwarded-host", host),
            *_trace(incoming),
        )
        ask = Ask(
            method=visit.method,
            head=request_head(visit.method, route.path, scope["query_string"], host, incoming.passed, ours),
            timeouts=self._gateway.timeouts[terms.label],
            content_length=length,
            has_body=incoming.has_body,
            max_body=terms.max_body,
            body_seconds=settings.body_seconds,
            upload_seconds=settings.upload_seconds,
        )
        if ask.has_body:
            await ask.gather(receive)
        visit.upstream = upstream.name
        asked = time.perf_counter()
        try:
            answer = await upstream.ask(ask, receive)
        finally:
            visit.upstream_seconds = time.perf_counter() - asked
        await self._relay(visit, answer)

    async def _relay(self, visit: Visit, answer: Answer) -> None:
        try:
            headers = relayed_headers(answer.headers, with_length=answer.status not in _BODILESS)
            await visit.begin(answer.status, headers)
            if answer.complete:
                part = await answer.read()
                answer.close()  # the service's connection need not wait for a slow client
                await visit.last(part)
                return
            if answer.is_event_stream:
                self._streams.add(answer)
            await visit.more(b"")  # what is to be read may take its time, and the head should not wait for it
            while part := await answer.read():
                await visit.more(part)
            await visit.last()
        finally:
            self._streams.discard(answer)
            answer.close()

    async def _show_page(self, visit: Visit, incoming: Incoming, scope: Any, receive: Receive) -> None:
        """Let the framework answer one of the gateway's own addresses."""
        visit.label = "page"
        if visit.path in _INSIDE_ONLY and not self._is_inside(visit, incoming):
            raise OnlyFromInside
        if visit.path not in _UNLIMITED:
            self._take(visit, "address", address_key(visit.address))

        async def relay(message: Message) -> None:
            if message["type"] == "http.response.start":
                await visit.begin(message["status"], relayed_headers(message["headers"], with_length=True))
                await visit.more(b"")
                return
            part = b"" if visit.method == "HEAD" else message.get("body", b"")
            await (visit.more(part) if message.get("more_body", False) else visit.last(part))

        headers = [*incoming.passed, (b"x-request-id", visit.request_id.encode())]
        if incoming.content_length is not None:
            headers.append((b"content-length", b"%d" % incoming.content_length))
        if (cookie := incoming.get(b"cookie")) is not None:
            headers.append((b"cookie", cookie))
        # What the page sees of its caller is what a service would see; each page that can be read has a head, too.
        seen = scope | {
            "method": "GET" if visit.method == "HEAD" else visit.method,
            "headers": headers,
            "client": (visit.address, 0),
            "scheme": visit.scheme.decode(),
        }
        try:
            await self._pages(seen, receive, relay)
        finally:
            # A page's path may hold an id; the route's own path does not, and there are few of them.
            visit.label = getattr(seen.get("route"), "path", visit.label)

    def _note(self, visit: Visit) -> None:
        """Count the request and write its line."""
        status = visit.status or HUNG_UP
        facts = visit.facts
        method = visit.method if visit.method in METHODS else "other"
        self._seconds(visit.label, method, status).observe(facts["seconds"])
        self._access.add(time.time(), f"{visit.method} {facts['path']} {status}", facts)

    def _seconds(self, route: str, method: str, status: int) -> Histogram:
        key = (route, method, status)
        histogram = self._histograms.get(key)
        if histogram is None:
            histogram = self._histograms[key] = SECONDS.labels(*key)
        return histogram


def _trace(incoming: Incoming) -> tuple[Header, ...]:
    """Go on with the caller's trace, and with its state only if the trace is sound (W3C Trace Context, 4.3)."""
    parent = incoming.get(b"traceparent")
    ours = telemetry.next_traceparent(None if parent is None else parent.decode("latin-1")).encode()
    state = incoming.get(b"tracestate")
    if parent is None or state is None or parent[:35] != ours[:35]:
        return ((b"traceparent", ours),)
    return ((b"traceparent", ours), (b"tracestate", state))


def _cors(origin: bytes) -> tuple[Header, ...]:
    return (
        *_VARY,
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", b"x-request-id, retry-after, location, ratelimit-remaining"),
    )
