"""What a sponsor chooses for all of its messages."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from services.invitations.commands import accounts as commands
from services.invitations.domain.quiet import QuietHours
from services.invitations.routes.doors import SPONSORSHIP, CurrentContext, SponsorOrAdmin
from services.invitations.schemas.answers import QuietHoursAnswer
from services.invitations.schemas.bodies import QuietHoursBody
from services.invitations.store import accounts
from shared.web import JsonResponse

router = APIRouter(prefix=f"{SPONSORSHIP}/quiet-hours", tags=["sponsors"])


@router.get("", response_model=QuietHoursAnswer)
async def show_quiet_hours(caller: SponsorOrAdmin, context: CurrentContext) -> Response:
    """Tell between which hours (Europe/Istanbul) none of the caller's messages go out."""
    async with context.database.connection() as conn:
        quiet = await accounts.find_quiet_hours(conn, caller.id)
    return JsonResponse({"success": True, "data": _describe(quiet)})


@router.put("", response_model=QuietHoursAnswer)
async def set_quiet_hours(caller: SponsorOrAdmin, body: QuietHoursBody, context: CurrentContext) -> Response:
    """Choose the hours (Europe/Istanbul) in which none of the caller's messages go out; null for none."""
    quiet = QuietHours(body.starts, body.ends) if body.starts is not None and body.ends is not None else None
    async with context.database.transaction() as conn:
        await commands.set_quiet_hours(conn, caller, quiet)
    return JsonResponse({"success": True, "data": _describe(quiet)})


def _describe(quiet: QuietHours | None) -> dict[str, str | None]:
    if quiet is None:
        return {"from": None, "to": None}
    return {"from": quiet.starts.strftime("%H:%M"), "to": quiet.ends.strftime("%H:%M")}
