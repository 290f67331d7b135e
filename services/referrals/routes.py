"""HTTP in, command or query, HTTP out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, status

from services.referrals import schemas
from services.referrals.commands import connection as connection_commands
from services.referrals.commands import sign_in as sign_in_commands
from services.referrals.commands import sync as sync_commands
from services.referrals.context import Context
from services.referrals.domain.failures import SignInRequired, TokenCacheKeyMismatch
from services.referrals.domain.sign_ins import SignInState
from services.referrals.store import connections as connection_store
from services.referrals.store import referrals as referral_store
from services.referrals.store import sign_ins as sign_in_store
from services.referrals.store import syncs as sync_store
from shared.errors import FieldError, Invalid
from shared.identity import Principal
from shared.moments import Moment, read_moment
from shared.pagination import decode_cursor, encode_cursor
from shared.web import require_role

router = APIRouter(prefix="/api/referrals", tags=["referrals"])


def _context(request: Request) -> Context:
    context: Context = request.state.context
    return context


CurrentContext = Annotated[Context, Depends(_context)]
Admin = Annotated[Principal, require_role("Admin")]
Limit = Annotated[int, Query(ge=1, le=200)]
# The longest key of an order and the longest id, each character escaped or of four bytes.
Cursor = Annotated[str | None, Query(max_length=3_000)]
Word = Annotated[str | None, Query(max_length=100)]
Sort = Literal[
    "-updated_at", "updated_at", "company_name", "-company_name", "status", "-status", "deal_value", "-deal_value"
]
_POSITION: Final = 2
# What a deal may be worth comes as a double; the database knows no number that is far beyond.
_LARGEST_EXPONENT: Final = 400
# How the last value of a page is read from its cursor, by what the list is sorted by.
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "updated_at": read_moment,
    "company_name": lambda value: str(value).replace("\0", ""),
    "status": lambda value: str(value).replace("\0", ""),
    "deal_value": lambda value: _finite(Decimal(value)),
}


@router.post("/sync")
async def request_sync(caller: Admin, context: CurrentContext, *, full: bool = False) -> schemas.SyncEnqueued:
    """Queue a sync of the referrals; while one is queued or running, answers with that one."""
    async with context.database.transaction() as conn:
        sync, is_new = await sync_commands.request_sync(
            conn, context.rules, mode="full" if full else "incremental", asked_by=caller
        )
    return schemas.SyncEnqueued(enqueued=is_new, task_id=sync.task_id)


@router.get("/sync")
async def list_syncs(_: Admin, context: CurrentContext, limit: Limit = 20, cursor: Cursor = None) -> schemas.SyncPage:
    """List syncs, the newest first."""
    async with context.database.connection() as conn:
        syncs = await sync_store.list_syncs(conn, limit=limit + 1, after=_after(cursor, UUID))
    last = syncs[limit - 1] if len(syncs) > limit else None
    return schemas.SyncPage(
        items=[schemas.SyncBody.of(sync) for sync in syncs[:limit]],
        next_cursor=encode_cursor(last.requested_at, str(last.task_id)) if last else None,
    )


@router.get("/sync/{task_id}")
async def get_sync(task_id: UUID, _: Admin, context: CurrentContext) -> schemas.SyncBody:
    """Say where a sync stands."""
    async with context.database.connection() as conn:
        return schemas.SyncBody.of(await sync_store.get_sync(conn, task_id))


@router.post("/sign-in", status_code=status.HTTP_201_CREATED)
async def begin_sign_in(caller: Admin, context: CurrentContext) -> schemas.SignInBegun:
    """Ask Microsoft for a code with which a person signs in."""
    begun = await sign_in_commands.begin_sign_in(context.access, asked_by=caller)
    return schemas.SignInBegun.of(begun)


@router.get("/sign-in/{sign_in_id}")
async def get_sign_in(sign_in_id: UUID, caller: Admin, context: CurrentContext) -> schemas.SignInBody:
    """Say where a sign-in stands; its code is shown only to the admin who asked for it."""
    async with context.database.connection() as conn:
        sign_in = await sign_in_store.get_sign_in(conn, sign_in_id)
    may_see_code = sign_in.state is SignInState.PENDING and sign_in.asked_by.id == caller.id
    code = sign_in_commands.user_code_of(context.access, sign_in) if may_see_code else None
    return schemas.SignInBody.of(sign_in, code)


@router.get("/connection")
async def get_connection(_: Admin, context: CurrentContext) -> schemas.ConnectionBody:
    """Say how the connection to Partner Center is, without asking Microsoft."""
    async with context.database.connection() as conn:
        stored = await connection_store.find_connection(conn)
    not_usable = None
    try:
        if stored:
            connection_commands.usable_cache(context.access, stored)
    except (TokenCacheKeyMismatch, SignInRequired) as error:
        not_usable = error.message
    return schemas.ConnectionBody.of(stored, is_enabled=context.rules.is_enabled, not_usable=not_usable)


@router.delete("/connection")
async def reset_connection(caller: Admin, context: CurrentContext) -> schemas.ConnectionReset:
    """Forget the stored sign-in."""
    async with context.database.transaction() as conn:
        existed = await connection_commands.reset_connection(conn, asked_by=caller)
    return schemas.ConnectionReset(existed=existed)


@router.get("")
async def list_referrals(
    _: Admin,
    context: CurrentContext,
    status: Word = None,
    substatus: Word = None,
    type: Word = None,  # noqa: A002 - the name that clients use
    country: Word = None,
    updated_since: Moment | None = None,
    text: Word = None,
    sort: Sort = "-updated_at",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> schemas.ReferralPage:
    """List referrals; `sort` names a field, with a minus before it for the largest first."""
    wanted = referral_store.Filter(status, substatus, type, country, updated_since, text)
    order = referral_store.Order(sort.lstrip("-"), descending=sort.startswith("-"))
    after = _behind(cursor, order.by)
    async with context.database.connection() as conn:
        rows = await referral_store.list_referrals(conn, wanted, order, limit=limit + 1, after=after)
    last = rows[limit - 1] if len(rows) > limit else None
    return schemas.ReferralPage(
        items=[schemas.ReferralBody.of(row) for row in rows[:limit]],
        next_cursor=encode_cursor(_sendable(last["sort_key"]), last["referral_id"]) if last else None,
    )


@router.get("/{referral_id}")
async def get_referral(referral_id: str, _: Admin, context: CurrentContext) -> schemas.ReferralDetail:
    """Give one referral whole, with the history of its status."""
    async with context.database.connection() as conn:
        row = await referral_store.get_referral(conn, referral_id)
        statuses = await referral_store.list_statuses(conn, referral_id)
    return schemas.ReferralDetail.with_history(row, statuses)


def _behind(cursor: str | None, by: str) -> tuple[Any, str] | None:
    """Read where the page before ended; raises Invalid for the cursor of another order."""
    if cursor is None:
        return None
    value, referral_id = decode_cursor(cursor, _POSITION)
    try:
        return _READ[by](value), str(referral_id).replace("\0", "")
    except (TypeError, ValueError, ArithmeticError):
        raise Invalid(fields=[FieldError("cursor", "Take the cursor from next_cursor of the page before.")]) from None


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite() or abs(value.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError("no number")
    return value


def _sendable(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def _after(cursor: str | None, identifier: type[Any]) -> tuple[datetime, Any] | None:
    if cursor is None:
        return None
    moment, last_id = decode_cursor(cursor, _POSITION)
    try:
        return read_moment(moment), identifier(last_id)
    except (TypeError, ValueError):
        raise Invalid(fields=[FieldError("cursor", "Take the cursor from next_cursor of the page before.")]) from None
