"""What every route of auth shares: the context, a caller whose session still lives, and a strict reading of bodies."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from services.auth.context import Context
from services.auth.domain.accounts import ADMIN
from services.auth.domain.errors import SessionEnded
from services.auth.store import accounts, sessions
from shared.errors import Failure, FieldError, Forbidden, Invalid
from shared.identity import Principal
from shared.web import Caller


async def _context(request: Request) -> Context:
    return cast("Context", request.state.context)


T = TypeVar("T")
ContextHere = Annotated[Context, Depends(_context)]


async def _signed_in(caller: Caller, context: ContextHere) -> Principal:
    """Auth owns the sessions, so it does not trust a token whose session is over, not even for its last minutes."""
    async with context.database.connection() as conn:
        session = await sessions.find_session(conn, _session_id(caller))
        account = await accounts.get_account(conn, caller.id) if session else None
    now = context.clock()
    if session is None or account is None or session.account_id != account.id:
        raise SessionEnded
    if not (session.is_live(now, context.rules.sessions) and account.is_enabled):
        raise SessionEnded
    if not caller.roles <= account.roles_at(now):
        raise SessionEnded
    return caller


SignedIn = Annotated[Principal, Depends(_signed_in)]


async def only_admins(caller: SignedIn) -> Principal:
    """Let only admins in whose session lives."""
    if not caller.has_role(ADMIN):
        raise Forbidden("This needs the role Admin.")
    return caller


Admin = Annotated[Principal, Depends(only_admins)]


def _session_id(caller: Principal) -> UUID:
    try:
        return UUID(caller.session_id)
    except ValueError:
        raise SessionEnded from None


async def _no_repeated_names(request: Request) -> None:
    """Refuse a body that names a thing twice: two readers could take different ones (ASVS 15.3.7, CVE-2023-7028)."""
    body = await request.body()
    if not body:
        return
    try:
        json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return  # no JSON at all: the model says so


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its names and values; raises Invalid for a name that appears twice."""
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            raise Invalid(fields=[FieldError(name[:64], "This name appears twice.", "REPEATED")])
        read[name] = value
    return read


def _no_store(response: Response) -> None:
    """Nothing that auth says may stay in a cache (ASVS 14.3.2)."""
    response.headers["cache-control"] = "no-store"


def make_router(tag: str) -> APIRouter:
    """Make a router of `/api/v1/auth`."""
    return APIRouter(prefix="/api/v1/auth", tags=[tag], dependencies=[Depends(_no_repeated_names), Depends(_no_store)])


def given(result: T | Failure) -> T:
    """Raise what a command returned as its refusal, now that its evidence is committed."""
    if isinstance(result, Failure):
        raise result
    return result
