"""What of a request's and an answer's headers may pass, and what the gateway says in their place."""

from __future__ import annotations

import re
from typing import Final

from services.gateway.domain.refusals import HeaderRefused

Header = tuple[bytes, bytes]

# RFC 9110, 7.6.1: these speak about one connection. `expect` is answered by us, `te` and `trailer` would promise
# trailers, which we drop.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
# Who the caller is and where the call came from is for us to say; which method and path it has, the request line says.
_OURS: Final = frozenset(
    {
        b"cf-connecting-ip",
        b"client-ip",
        b"content-length",
        b"cookie",  # the session of the pages for people; services know none
        b"fastly-client-ip",
        b"forwarded",
        b"front-end-https",
        b"host",
        b"proxy",  # CGI-like programs take it for their own setting HTTP_PROXY
        b"remote-addr",
        b"remote-user",
        b"traceparent",
        b"tracestate",
        b"true-client-ip",
        b"via",
        b"x-admin",
        b"x-anonymous-consumer",
        b"x-claims",
        b"x-cluster-client-ip",
        b"x-email",
        b"x-forwarded",
        b"x-host",
        b"x-identity",
        b"x-http-method",
        b"x-http-method-override",
        b"x-is-admin",
        b"x-method-override",
        b"x-on-behalf-of",
        b"x-override-url",
        b"x-permissions",
        b"x-real-ip",
        b"x-request-id",
        b"x-rewrite-url",
        b"x-roles",
        b"x-scheme",
        b"x-session-id",
        b"x-sub",
        b"x-subject",
        b"x-uid",
        b"x-username",
    }
)
_OUR_PREFIXES: Final = (
    b"ssl-client-",
    b"x-account-",
    b"x-auth-",
    b"x-authenticated-",
    b"x-client-",
    b"x-consumer-",
    b"x-credential-",
    b"x-envoy-",
    b"x-forwarded-",
    b"x-jwt-",
    b"x-original-",
    b"x-principal-",
    b"x-remote-",
    b"x-role-",
    b"x-sponsor-",
    b"x-ssl-",
    b"x-tenant-",
    b"x-user-",
    b"x-webauth-",
)
# They speak about the request and never about a connection, whatever a client writes into `Connection`: dropped on its
# word, a service would see another request than the one that was checked.
_END_TO_END: Final = frozenset(
    {
        b"accept",
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"idempotency-key",
        b"if-match",
        b"if-none-match",
        b"range",
        b"user-agent",
        b"x-twilio-signature",
    }
)
# Read here, and decisive: two of them are an attack or a mistake.
_SINGLE: Final = frozenset({b"authorization", b"content-length", b"content-type", b"host", b"transfer-encoding"})
_READ: Final = _SINGLE | {
    b"access-control-request-method",
    b"connection",
    b"cookie",
    b"origin",
    b"traceparent",
    b"tracestate",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-request-id",
}

_HOST: Final = re.compile(rb"(?:[A-Za-z0-9_.\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_PLAIN_OPTIONS: Final = frozenset({b"", b"close", b"keep-alive"})
# Repeated, these are one list (RFC 9110, 5.3; RFC 6265, 5.4 for cookies).
_JOINED: Final = {b"connection": b",", b"x-forwarded-for": b",", b"tracestate": b",", b"cookie": b"; "}

# What a service says about its own connection, and what we say in its place.
_NOT_RELAYED: Final = _HOP_BY_HOP | {
    b"content-length",
    b"date",
    b"server",
    b"x-request-id",
    b"x-powered-by",
    b"x-content-type-options",
    b"x-frame-options",
    b"referrer-policy",
    b"strict-transport-security",
    b"ratelimit-limit",
    b"ratelimit-remaining",
    b"ratelimit-reset",
}
SECURITY_HEADERS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
# Only over https, where browsers heed it (RFC 6797, 7.2).
TRANSPORT_SECURITY: Final[Header] = (b"strict-transport-security", b"max-age=31536000")


# What becomes of a header; plain numbers, since members of an Enum cost more than everything else here.
_PASS, _READ_AND_PASS, _READ_ONLY, _DROP = 1, 2, 3, 4
# Header names are few and come again with each request, so each is judged once. Bounded: clients choose the names.
_MAX_VERDICTS: Final = 2_048
_verdicts: dict[bytes, int] = {}


def _judge(name: bytes) -> int:
    # `X_User_Id` and `X-User-Id` become one variable in CGI-like programs; nginx drops underscores for this reason.
    dropped = name in _HOP_BY_HOP or name in _OURS or name.startswith(_OUR_PREFIXES) or b"_" in name
    read, passed = (_READ_ONLY, _READ_AND_PASS) if name in _READ else (_DROP, _PASS)
    verdict = read if dropped else passed
    if len(_verdicts) < _MAX_VERDICTS:
        _verdicts[name] = verdict
    return verdict


class Incoming:
    """What the gateway reads from the headers of a request, and the headers that go on as they are."""

    __slots__ = ("_read", "passed")

    def __init__(self, read: dict[bytes, bytes], passed: list[Header]) -> None:
        self._read = read
        self.passed = passed

    def get(self, name: bytes) -> bytes | None:
        """Give a header that the gateway reads itself; of repeated ones the last."""
        return self._read.get(name)

    @property
    def content_length(self) -> int | None:
        """How many bytes of body are announced; None if that is left open."""
        length = self._read.get(b"content-length")
        return None if length is None else int(length)

    @property
    def has_body(self) -> bool:
        """Tell whether a body follows."""
        return b"transfer-encoding" in self._read or self._read.get(b"content-length", b"0").strip(b"0") != b""

    @property
    def bearer(self) -> str | None:
        """Give the access token, if one came."""
        scheme, _, token = self._read.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        return token.strip(b" ").decode("latin-1") or None


def read_headers(headers: list[Header], *, http_version: str = "1.1") -> Incoming:
    """Sort the headers of a request in one pass; raises HeaderRefused on what two programs could read differently.

    Connection-nominated headers go first, before anything of ours is set: `Connection: x-forwarded-for` must not be
    able to remove what we say.
    """
    read: dict[bytes, bytes] = {}
    passed: list[Header] = []
    for header in headers:
        name, value = header
        verdict = _verdicts.get(name) or _judge(name)
        if verdict == _PASS:
            passed.append(header)
        elif verdict != _DROP:
            if name in read:
                value = _repeated(name, read[name], value)
            read[name] = value
            if verdict == _READ_AND_PASS:
                passed.append(header)
    _check_values(headers)
    _check_framing(read, http_version)
    if b"connection" in read:
        passed = _without_nominated(passed, read[b"connection"])
    return Incoming(read, passed)


def _repeated(name: bytes, first: bytes, second: bytes) -> bytes:
    if name in _SINGLE:
        raise HeaderRefused(f"The header '{name.decode()}' is sent twice.")
    joint = _JOINED.get(name)
    return second if joint is None else first + joint + second


def _check_values(headers: list[Header]) -> None:
    values = b"".join([value for _, value in headers])
    if b"\n" in values or b"\r" in values or b"\0" in values:
        raise HeaderRefused("A header holds a line break or a NUL.")


def _check_framing(read: dict[bytes, bytes], http_version: str) -> None:
    if http_version not in {"1.0", "1.1"}:
        raise HeaderRefused("Only HTTP/1.0 and HTTP/1.1 are understood.")
    host = read.get(b"host")
    if host is None:
        if http_version != "1.0":
            raise HeaderRefused("The header 'host' is missing.")
    elif not _HOST.fullmatch(host):
        raise HeaderRefused("The header 'host' is malformed.")
    length = read.get(b"content-length")
    encoding = read.get(b"transfer-encoding")
    if length is not None and not _LENGTH.fullmatch(length):
        raise HeaderRefused("The header 'content-length' is no plain number.")
    if encoding is not None and (length is not None or encoding.lower() != b"chunked" or http_version == "1.0"):
        raise HeaderRefused("Only 'Transfer-Encoding: chunked' is understood, and never with 'Content-Length'.")


def relayed_headers(headers: list[Header], *, with_length: bool) -> list[Header]:
    """Give the headers of a service's answer that go on to the client."""
    connection = b""
    relayed = []
    for header in headers:
        name = header[0]
        if name in _NOT_RELAYED:
            if name == b"connection":
                connection += b"," + header[1]
            elif name == b"content-length" and with_length:
                relayed.append(header)
            continue
        if name.startswith(b"access-control-"):
            continue
        relayed.append(header)
    return _without_nominated(relayed, connection)


def _without_nominated(headers: list[Header], connection: bytes) -> list[Header]:
    """Drop the headers that the connection header names as its own (RFC 9110, 7.6.1)."""
    if not connection:
        return headers
    nominated = {token.strip().lower() for token in connection.split(b",")} - _END_TO_END
    if nominated <= _PLAIN_OPTIONS:
        return headers
    return [header for header in headers if header[0] not in nominated]


def request_head(
    method: str, path: bytes, query: bytes, host: bytes, passed: list[Header], ours: tuple[Header, ...]
) -> bytes:
    """Write the request line and the headers for a service; the framing follows where the body is known."""
    parts = [method.encode(), b" ", path]
    if query:
        parts += (b"?", query)
    parts += (b" HTTP/1.1\r\nhost: ", host, b"\r\n")
    for name, value in passed:
        parts += (name, b": ", value, b"\r\n")
    for name, value in ours:
        parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)
