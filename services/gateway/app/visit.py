"""One request on its way through the gateway: what is known of it, and the answer that is given."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from services.gateway.app.refusal import refusal_answer
from services.gateway.domain.headers import SECURITY_HEADERS, TRANSPORT_SECURITY, Header
from services.gateway.domain.limits import Allowance
from services.gateway.domain.refusals import HeaderRefused
from services.gateway.domain.routing import METHODS, holds_secret
from shared.errors import Failure, MethodNotAllowed

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# nginx's word for "the client hung up before it had its answer"; no client sees it.
HUNG_UP: Final = 499


class Visit:
    """A request and its answer."""

    __slots__ = (
        "_send",
        "account_id",
        "address",
        "began",
        "cors",
        "label",
        "limits",
        "method",
        "path",
        "peer",
        "problem",
        "request_id",
        "scheme",
        "secret_path",
        "sent_bytes",
        "status",
        "upstream",
        "upstream_seconds",
        "whole",
    )

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._send = send
        self.began = time.perf_counter()
        self.request_id = request_id
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"]
        peer = scope.get("client")
        self.address: str = peer[0] if peer else ""
        self.peer = self.address  # who holds the connection; `address` is who is said to be behind a trusted proxy
        self.scheme: bytes = scope["scheme"].encode()
        self.label = "none"
        self.secret_path = holds_secret(self.path)
        self.account_id: int | None = None
        self.limits: Allowance | None = None
        self.cors: tuple[Header, ...] = ()
        self.upstream: str | None = None
        self.upstream_seconds: float | None = None
        self.problem: Failure | None = None
        self.status = 0
        self.sent_bytes = 0
        self.whole = False

    @property
    def begun(self) -> bool:
        """Tell whether the answer has begun, so that no other can be given."""
        return self.status != 0

    async def begin(self, status: int, headers: list[Header]) -> None:
        """Send the head of the answer, with what every answer of the gateway says."""
        self.status = status
        headers = [*headers, (b"x-request-id", self.request_id.encode()), *SECURITY_HEADERS, *self.cors]
        if self.scheme == b"https":
            headers.append(TRANSPORT_SECURITY)
        if self.limits is not None:
            headers += [
                (b"ratelimit-limit", b"%d" % self.limits.limit),
                (b"ratelimit-remaining", b"%d" % self.limits.remaining),
                (b"ratelimit-reset", b"%d" % self.limits.reset_seconds),
            ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def more(self, part: bytes) -> None:
        """Send a piece of the body; waits while the client reads slower than we write."""
        self.sent_bytes += len(part)
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def last(self, part: bytes = b"") -> None:
        """Send the last piece of the body."""
        self.sent_bytes += len(part)
        self.whole = True
        await self._send({"type": "http.response.body", "body": part, "more_body": False})

    async def refuse(self, failure: Failure) -> None:
        """Answer with a problem; an answer that has begun stays cut short, which its client can tell."""
        self.problem = failure
        if self.begun:
            return
        status, headers, body = refusal_answer(failure, self.request_id)
        if isinstance(failure, HeaderRefused):
            headers.append((b"connection", b"close"))  # where the next request begins is not sure enough
        elif isinstance(failure, MethodNotAllowed):
            headers.append((b"allow", ", ".join(METHODS).encode()))  # RFC 9110, 15.5.6
        await self.begin(status, headers)
        await self.last(b"" if self.method == "HEAD" else body)

    @property
    def facts(self) -> dict[str, Any]:
        """Give what the access log says of it."""
        facts: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.label if self.secret_path else self.path.decode("latin-1"),
            "route": self.label,
            "status": self.status or HUNG_UP,
            "seconds": round(time.perf_counter() - self.began, 6),
            "address": self.address,
            "sent_bytes": self.sent_bytes,
        }
        if self.upstream is not None:
            facts["upstream"] = self.upstream
        if self.upstream_seconds is not None:
            facts["upstream_seconds"] = round(self.upstream_seconds, 6)
        if self.account_id is not None:
            facts["account"] = self.account_id
        if self.problem is not None:
            facts["problem"] = self.problem.code
            facts["detail"] = self.problem.message
        if not self.whole:
            facts["cut"] = True
        return facts
