"""What the doors share: who may come in, in which role, with which key."""

from __future__ import annotations

import re
from typing import Annotated, Final, cast

from fastapi import Depends, Header, Request

from services.invitations.commands.bulk import Key
from services.invitations.context import Context
from services.invitations.domain.bulk import (
    AdminRequired,
    IdempotencyKeyInvalid,
    OnBehalfOfNotSupported,
    SponsorOnly,
    SponsorRoleRequired,
)
from shared.errors import FieldError, Invalid
from shared.identity import Principal
from shared.pagination import decode_cursor
from shared.web import require_role

SPONSORSHIP: Final = "/api/Sponsorship"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


def _context(request: Request) -> Context:
    return cast("Context", request.state.context)


def _idempotency_key(idempotency_key: Annotated[str | None, Header()] = None) -> str | None:
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise IdempotencyKeyInvalid
    return idempotency_key


CurrentContext = Annotated[Context, Depends(_context)]
Admin = Annotated[Principal, require_role("Admin", refusal=AdminRequired())]
Sponsor = Annotated[Principal, require_role("Sponsor", refusal=SponsorOnly())]
SponsorOrAdmin = Annotated[Principal, require_role("Sponsor", "Admin", refusal=SponsorRoleRequired())]
IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


def only_parameters(request: Request, *names: str) -> None:
    """Refuse query parameters that a door does not know: who sends them means something that would not happen."""
    unknown = set(request.query_params) - set(names)
    if unknown:
        raise OnBehalfOfNotSupported(unknown)
    doubled = [name for name in names if len(request.query_params.getlist(name)) > 1]
    if doubled:
        raise Invalid(fields=[FieldError(name, "Yalnızca bir kez verilebilir") for name in doubled])


def position_of(cursor: str | None) -> int | None:
    """Read the id at which the page before ended; raises Invalid."""
    if cursor is None:
        return None
    (position,) = decode_cursor(cursor, 1)
    if not isinstance(position, int):
        raise Invalid(fields=[FieldError("cursor", "Take the cursor from next_cursor of the page before.")])
    return position


def key_of(value: str | None, fingerprint: bytes) -> Key | None:
    """Tie a key to the request that it came with."""
    return Key(value, fingerprint) if value is not None else None
