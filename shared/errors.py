"""Kinds of failure, and the one table that says what each means to an HTTP client and to a message.

A concrete error is a fact with a stable code: `class ResetTokenInvalid(BadRequest): code = "RESET_TOKEN_INVALID"`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar


class Fate(Enum):
    """What becomes of a message whose handling ended in a failure."""

    ACKNOWLEDGE = "acknowledge"
    RETRY = "retry"
    DEAD_LETTER = "dead-letter"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with one field of the input."""

    field: str
    message: str
    code: str = "INVALID"

    def as_dict(self) -> dict[str, str]:
        """Give the shape that clients read."""
        return {"field": self.field, "message": self.message, "code": self.code}


class Failure(Exception):
    """Something that the caller must be told, in words that may be shown to anybody."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"
    fate: ClassVar[Fate] = Fate.RETRY
    code: str = "INTERNAL_ERROR"
    message: str = "Something went wrong. Try again later."

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        fields: list[FieldError] | None = None,
        retry_after: int | None = None,
        **extra: Any,
    ) -> None:
        self.message = message if message is not None else type(self).message
        self.code = code if code is not None else type(self).code
        self.fields = fields or []
        self.retry_after = retry_after
        self.extra = extra
        super().__init__(self.message)


class BadRequest(Failure):
    """The request can't be carried out as asked."""

    status, title, fate = 400, "Bad Request", Fate.DEAD_LETTER
    code, message = "BAD_REQUEST", "The request can't be carried out as asked."


class Unauthenticated(Failure):
    """Nobody knows who is asking."""

    status, title, fate = 401, "Unauthorized", Fate.DEAD_LETTER
    code, message = "UNAUTHENTICATED", "Unauthorized"


class Forbidden(Failure):
    """The caller is known and may not do this."""

    status, title, fate = 403, "Forbidden", Fate.DEAD_LETTER
    code, message = "FORBIDDEN", "You may not do this."


class NotFound(Failure):
    """There is no such thing; for a message: not yet, it may be early."""

    status, title, fate = 404, "Not Found", Fate.RETRY
    code, message = "NOT_FOUND", "There is no such thing."


class MethodNotAllowed(Failure):
    """The address exists, the method does not."""

    status, title, fate = 405, "Method Not Allowed", Fate.DEAD_LETTER
    code, message = "METHOD_NOT_ALLOWED", "This address does not answer that method."


class Conflict(Failure):
    """The state does not allow it; for a message: it is done already."""

    status, title, fate = 409, "Conflict", Fate.ACKNOWLEDGE
    code, message = "CONFLICT", "The present state does not allow this."


class TooLarge(Failure):
    """The body is larger than this address takes."""

    status, title, fate = 413, "Content Too Large", Fate.DEAD_LETTER
    code, message = "CONTENT_TOO_LARGE", "The body is too large."


class UnsupportedMedia(Failure):
    """The body is of a kind that this address does not take."""

    status, title, fate = 415, "Unsupported Media Type", Fate.DEAD_LETTER
    code, message = "UNSUPPORTED_MEDIA_TYPE", "The body is of a kind that this address does not take."


class Invalid(Failure):
    """The input is malformed: which field, what is wrong, what would be right."""

    status, title, fate = 422, "Unprocessable Content", Fate.DEAD_LETTER
    code, message = "VALIDATION_FAILED", "The input is not valid."


class TooMany(Failure):
    """Asked too often."""

    status, title, fate = 429, "Too Many Requests", Fate.RETRY
    code, message = "TOO_MANY_REQUESTS", "Too many requests. Try again later."


class Unavailable(Failure):
    """Something that we need is away; the same call may go through later."""

    status, title, fate = 503, "Service Unavailable", Fate.RETRY
    code, message = "UNAVAILABLE", "Temporarily unavailable. Try again later."

    def __init__(self, message: str | None = None, *, retry_after: int = 2, **extra: Any) -> None:
        super().__init__(message, retry_after=retry_after, **extra)


def fate_of(error: BaseException) -> Fate:
    """Say what becomes of a message whose handler raised this; what nobody foresaw is tried again."""
    return error.fate if isinstance(error, Failure) else Fate.RETRY
