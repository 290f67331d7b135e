"""Why the gateway refuses a request itself."""

from __future__ import annotations

from shared.errors import (
    BadRequest,
    Failure,
    Fate,
    Forbidden,
    NotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)


class PathRefused(BadRequest):
    """The path could mean one thing to us and another to a service."""

    code = "PATH_NOT_ALLOWED"
    message = "The path holds what is not allowed in it, such as '..', '//', ';', '\\' or an encoded slash or dot."


class HeaderRefused(BadRequest):
    """A header could mean one thing to us and another to a service."""

    code = "HEADER_NOT_ALLOWED"
    message = "A header is missing, doubled or malformed."


class HeadRefused(BadRequest):
    """These bytes are no HTTP/1.1 request that has only one meaning."""

    code = "MALFORMED_REQUEST"
    message = "This is not a well-formed HTTP/1.1 request for a path of this server."


class HeadTooLarge(Failure):
    """The request line and headers are more than anybody needs."""

    status, title, fate = 431, "Request Header Fields Too Large", Fate.DEAD_LETTER
    code, message = "HEADERS_TOO_LARGE", "The request line and the headers are too large or too many."


class HeadTimeout(Failure):
    """The head of the request did not come in time."""

    status, title, fate = 408, "Request Timeout", Fate.DEAD_LETTER
    code, message = "HEADERS_TIMEOUT", "The head of the request was not sent in time."


class UnknownArea(NotFound):
    """Nothing is served under this address."""

    code = "UNKNOWN_AREA"


class TokenMissing(Unauthenticated):
    """Everything that is not listed as public needs a token."""

    code = "TOKEN_MISSING"
    message = "This call needs an access token: send 'Authorization: Bearer <token>'."


class SessionRevoked(Unauthenticated):
    """The token is genuine, but its session has ended."""

    code = "SESSION_REVOKED"
    message = "This session has ended. Sign in again."


class OnlyFromInside(Forbidden):
    """Figures of the running system are for the operators' own networks."""

    code = "ONLY_FROM_INSIDE"
    message = "This address answers only to the operators' own networks."


class BodyTooLarge(TooLarge):
    """The body passes the limit of this route."""

    code = "BODY_TOO_LARGE"


class TooOften(TooMany):
    """A bucket is empty."""

    code = "RATE_LIMITED"


class RequestTimeout(Failure):
    """The client did not send its request in time."""

    status, title, fate = 408, "Request Timeout", Fate.DEAD_LETTER
    code, message = "REQUEST_TIMEOUT", "The request was not sent in time."


class UpstreamAway(Unavailable):
    """A service can't be reached, or has failed so often that we let it rest."""

    code = "UPSTREAM_UNAVAILABLE"


class UpstreamBusy(Unavailable):
    """All connections to a service are taken and the queue for them is full."""

    code = "UPSTREAM_BUSY"


class UpstreamBroken(Failure):
    """A service took the request and did not answer it properly; whether it acted on it is unknown."""

    status, title, fate = 502, "Bad Gateway", Fate.RETRY
    code, message = "UPSTREAM_BROKEN", "The service behind this address broke off. Whether it has acted is unknown."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, retry_after=1)


class UpstreamSilent(UpstreamBroken):
    """The connection to a service broke before a single byte of the answer: a reading request may be tried again."""

    code = "UPSTREAM_SILENT"


class UpstreamTimeout(Failure):
    """A service did not answer in time; whether it acted is unknown."""

    status, title, fate = 504, "Gateway Timeout", Fate.RETRY
    code, message = "UPSTREAM_TIMEOUT", "The service behind this address did not answer in time."
