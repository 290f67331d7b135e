"""A sponsor's stock of codes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from services.invitations.commands import codes as commands
from services.invitations.context import Context
from services.invitations.domain.bulk import SponsorUnknown, TierUnknown, read_tier
from services.invitations.domain.codes import make_codes
from services.invitations.routes.doors import SPONSORSHIP, Admin, CurrentContext, SponsorOrAdmin
from services.invitations.schemas import CodesBody, FactsAnswer, StockBody, TierStock
from services.invitations.store import accounts, codes
from shared.web import JsonResponse

router = APIRouter(prefix=SPONSORSHIP, tags=["codes"])


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


async def _stock(context: Context, sponsor_id: int) -> StockBody:
    async with context.database.connection() as conn:
        stock = await codes.list_stock(conn, sponsor_id)
    return StockBody(sponsorId=sponsor_id, tiers=[TierStock(**tier._asdict()) for tier in stock])
