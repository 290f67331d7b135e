"""Why a page is not shown as asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import orjson

from services.gateway.own_door import Answer


class Reason(StrEnum):
    """Why somebody has to sign in; names a text of `sign_in.*`."""

    NEEDED = "needed"
    EXPIRED = "expired"
    SIGNED_OUT = "signed_out"
    PASSWORD_SET = "password_set"  # noqa: S105 - the key of a text
    RESET_CANCELLED = "reset_cancelled"


class SignInNeeded(Exception):
    """Nobody is signed in, or not any more."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason)


class GoElsewhere(Exception):
    """This page is not the one to be on now."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


class FormRefused(Exception):
    """A form did not come from a page of ours, or is too old or too large; `text` says which."""

    def __init__(self, text: str, status: int) -> None:
        self.text = text
        self.status = status
        super().__init__(text)


class NotForThem(Exception):
    """Somebody is signed in whose roles do not open this page."""


@dataclass
class ApiRefused(Exception):
    """The interface refused a call, with its problem in the form that every client gets."""

    status: int
    code: str
    detail: str
    fields: list[dict[str, Any]] = field(default_factory=list)
    retry_after: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """Read a refusal."""
        try:
            problem: dict[str, Any] = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            problem = {}
        retry_after = answer.headers.get(b"retry-after")
        return cls(
            status=answer.status,
            code=str(problem.get("code", "")),
            detail=str(problem.get("detail", "")),
            fields=list(problem.get("errors", [])),
            retry_after=retry_after.decode("latin-1") if retry_after else None,
            extra=problem,
        )
