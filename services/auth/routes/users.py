"""Administration of users."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import Path, Query

from services.auth.commands import accounts as commands
from services.auth.routes.door import Admin, ContextHere, given, make_router
from services.auth.schemas import GrantsBody, NewUserBody, User, UserChangeBody, UserPage
from services.auth.store import accounts
from shared.errors import FieldError, Invalid
from shared.pagination import decode_cursor, encode_cursor

router = make_router("users")

_LARGEST_ID: Final = 2**63 - 1  # a Postgres bigint
Id = Annotated[int, Path(ge=1, le=_LARGEST_ID)]


@router.get("/users")
async def list_users(
    caller: Admin,  # noqa: ARG001  lets only admins in
    context: ContextHere,
    role: Literal["Admin", "Sponsor", "Player", "Auditor"] | None = None,
    is_active: bool | None = None,
    search: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> UserPage:
    """List users, by role, state and a part of name or address."""
    after = _position(cursor) if cursor else 0
    async with context.database.connection() as conn:
        found = await accounts.list_accounts(
            conn, role=role, is_active=is_active, search=search, after=after, limit=limit + 1
        )
    page = found[:limit]
    following = encode_cursor(page[-1].id) if len(found) > limit else None
    return UserPage(items=[User.of(account) for account in page], next_cursor=following)


@router.post("/users", status_code=201)
async def create_user(body: NewUserBody, caller: Admin, context: ContextHere) -> User:
    """Make an account; its owner gets a token to set the first password."""
    async with context.database.transaction() as conn:
        account = await commands.create_user(
            conn, caller, email=body.email, full_name=body.full_name, roles=body.roles, now=context.clock()
        )
    return User.of(account)


@router.get("/users/{user_id}")
async def get_user(user_id: Id, caller: Admin, context: ContextHere) -> User:  # noqa: ARG001  lets only admins in
    """Give one user."""
    async with context.database.connection() as conn:
        return User.of(await accounts.get_account(conn, user_id))


@router.patch("/users/{user_id}")
async def change_user(user_id: Id, body: UserChangeBody, caller: Admin, context: ContextHere) -> User:
    """Change name or roles, activate, disable."""
    async with context.database.transaction() as conn:
        account = await commands.change_user(
            conn,
            caller,
            user_id,
            full_name=body.full_name,
            roles=body.roles,
            is_active=body.active,
            now=context.clock(),
        )
    return User.of(account)


@router.put("/users/{user_id}/on-behalf-of")
async def change_grants(user_id: Id, body: GrantsBody, caller: Admin, context: ContextHere) -> User:
    """Say for which sponsors an admin may act."""
    async with context.database.transaction() as conn:
        result = await commands.change_grants(conn, caller, user_id, body.grants, now=context.clock())
    return User.of(given(result))


@router.post("/users/{user_id}/confirm-admin")
async def confirm_admin(user_id: Id, caller: Admin, context: ContextHere) -> User:
    """Let the role of a break-glass admin last."""
    async with context.database.transaction() as conn:
        return User.of(await commands.confirm_admin(conn, caller, user_id, now=context.clock()))


@router.post("/users/{user_id}/end-sessions")
async def end_user_sessions(user_id: Id, caller: Admin, context: ContextHere) -> User:
    """End every session of a user."""
    async with context.database.transaction() as conn:
        return User.of(await commands.end_user_sessions(conn, caller, user_id, now=context.clock()))


@router.post("/users/{user_id}/remove-second-factor")
async def remove_lost_factor(user_id: Id, caller: Admin, context: ContextHere) -> User:
    """Remove the second factor of a user who lost it, telephone and recovery codes; ends the user's sessions."""
    async with context.database.transaction() as conn:
        return User.of(await commands.remove_lost_factor(conn, caller, user_id, now=context.clock()))


def _position(cursor: str) -> int:
    position = decode_cursor(cursor, 1)[0]
    if not isinstance(position, int) or not 0 <= position <= _LARGEST_ID:
        raise Invalid(fields=[FieldError("cursor", "Take the cursor from next_cursor of the page before.")])
    return position
