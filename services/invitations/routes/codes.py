"""A sponsor's stock of codes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from services.invitations.commands import codes as commands
from services.invitations.context import Context
from services.invitations.domain.bulk import SponsorUnknown, TierUnknown, read_tier
from services.invitations.domain.codes import make_codes
from services.invitations.routes.doors import SPONSORSHIP, Admin, CurrentContext, SponsorOrAdmin, position_of
from services.invitations.schemas.answers import (
    FactsAnswer,
    SpentBody,
    SponsorBody,
    SponsorPage,
    StockBody,
    TierStock,
    UsageBody,
)
from services.invitations.schemas.bodies import CodesBody
from services.invitations.store import accounts, codes
from shared.pagination import encode_cursor
from shared.web import JsonResponse

router = APIRouter(prefix=SPONSORSHIP, tags=["codes"])

Days = Annotated[int, Query(ge=1, le=366)]


@router.post("/admin/codes", status_code=201, response_model=FactsAnswer)
async def add_codes(caller: Admin, body: CodesBody, context: CurrentContext) -> Response:
    """Add codes to a sponsor's stock: so many new ones, or given ones."""
    tier = read_tier(body.tier)
    if tier is None:
        raise TierUnknown(body.tier)
    new_codes = body.codes if body.codes is not None else make_codes(tier, body.count or 0)
    async with context.database.transaction() as conn:
        await commands.add_codes(
            conn, caller, sponsor_id=body.sponsor_id, tier=tier, new_codes=new_codes, expires_at=body.expires_at
        )
    data = {"sponsorId": body.sponsor_id, "tier": tier, "count": len(new_codes)}
    return JsonResponse({"success": True, "message": f"{len(new_codes)} kod eklendi", "data": data}, status_code=201)


@router.get("/codes")
async def show_own_codes(caller: SponsorOrAdmin, context: CurrentContext) -> StockBody:
    """Tell the caller's own stock per tier."""
    return await _stock(context, caller.id)


@router.get("/codes/usage")
async def show_own_usage(caller: SponsorOrAdmin, context: CurrentContext, days: Days = 30) -> UsageBody:
    """Tell how many of the caller's codes farmers took on each of the last days."""
    return await _usage(context, caller.id, days)


@router.get("/admin/codes/usage")
async def show_usage(
    caller: Admin,
    context: CurrentContext,
    sponsor_id: Annotated[int | None, Query(alias="sponsorId", ge=1, le=2**63 - 1)] = None,
    days: Days = 30,
) -> UsageBody:
    """Tell how many codes of a sponsor, or of all, farmers took on each of the last days."""
    del caller
    return await _usage(context, sponsor_id, days)


@router.get("/admin/sponsors")
async def list_sponsors(
    caller: Admin,
    context: CurrentContext,
    search: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> SponsorPage:
    """List sponsors, by a part of the name or the id, each with the stock per tier."""
    del caller
    async with context.database.connection() as conn:
        found = await accounts.list_sponsors(conn, search=search, after=position_of(cursor) or 0, limit=limit + 1)
        stocks = await codes.list_stocks(conn, [account.id for account in found[:limit]])
    items = [
        SponsorBody(
            sponsor_id=account.id,
            full_name=account.full_name,
            is_active=account.is_active,
            tiers=[TierStock(**tier._asdict()) for tier in stocks[account.id]],
        )
        for account in found[:limit]
    ]
    return SponsorPage(items=items, next_cursor=encode_cursor(items[-1].sponsor_id) if len(found) > limit else None)


@router.get("/admin/codes")
async def show_codes(
    caller: Admin, context: CurrentContext, sponsor_id: Annotated[int, Query(alias="sponsorId", ge=1, le=2**63 - 1)]
) -> StockBody:
    """Tell a sponsor's stock per tier."""
    del caller
    async with context.database.connection() as conn:
        if await accounts.find_account(conn, sponsor_id) is None:
            raise SponsorUnknown
    return await _stock(context, sponsor_id)


async def _usage(context: Context, sponsor_id: int | None, days: int) -> UsageBody:
    async with context.database.connection() as conn:
        rows = await codes.list_spent_per_day(conn, sponsor_id, days)
    return UsageBody(days=days, spent=[SpentBody.model_validate(dict(row)) for row in rows])


async def _stock(context: Context, sponsor_id: int) -> StockBody:
    async with context.database.connection() as conn:
        stock = (await codes.list_stocks(conn, [sponsor_id]))[sponsor_id]
    return StockBody(sponsorId=sponsor_id, tiers=[TierStock(**tier._asdict()) for tier in stock])
