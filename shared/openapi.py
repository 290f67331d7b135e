"""What every service says of its failures in its description of itself: once, instead of at each route."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from shared.errors import (
    BadRequest,
    Conflict,
    Failure,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

PROBLEM_TYPE: Final = "application/problem+json"

_KINDS: Final[tuple[type[Failure], ...]] = (
    BadRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    Conflict,
    TooLarge,
    UnsupportedMedia,
    Invalid,
    TooMany,
    Unavailable,
)


class ProblemField(BaseModel):
    """One thing that is wrong with one field of the input."""

    field: str
    message: str
    code: str


class Problem(BaseModel):
    """A failure (RFC 9457); `code` is what programs go by, some codes add facts of their own."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    success: Literal[False]
    message: str
    errors: list[ProblemField] = []


def failures(*also: str) -> dict[int | str, dict[str, Any]]:
    """Give the documentation of every failure, for doors that answer in further media types with these."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    content = {PROBLEM_TYPE: {"schema": schema}, **{media_type: {} for media_type in also}}
    return {kind.status: {"description": kind.title, "content": content} for kind in _KINDS}


def add_problem_schema(document: dict[str, Any]) -> dict[str, Any]:
    """Add what the documentation of the failures refers to."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(schema.pop("$defs"))
    schemas[Problem.__name__] = schema
    return document
