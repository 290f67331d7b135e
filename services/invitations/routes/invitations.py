"""Invitations as their sponsor and admins see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from services.invitations.commands import invitations as commands
from services.invitations.context import Context
from services.invitations.domain import tokens
from services.invitations.domain.invitations import InvitationUnknown, Status
from services.invitations.domain.phones import PhoneInvalidError, read_phone
from services.invitations.routes.doors import SPONSORSHIP, CurrentContext, SponsorOrAdmin, position_of
from services.invitations.schemas.answers import FactsAnswer, InvitationDetail, InvitationPage
from services.invitations.store import deliveries, invitations
from shared.db import Row
from shared.errors import FieldError, Invalid
from shared.identity import Principal
from shared.moments import write_moment
from shared.pagination import encode_cursor
from shared.web import JsonResponse

router = APIRouter(prefix=f"{SPONSORSHIP}/farmer/invitations", tags=["invitations"])

InvitationId = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get("", response_model=InvitationPage)
async def list_invitations(
    caller: SponsorOrAdmin,
    context: CurrentContext,
    sponsor_id: Annotated[int | None, Query(alias="sponsorId", ge=1, le=2**63 - 1)] = None,
    status: Status | None = None,
    phone: str | None = None,
    job_id: Annotated[int | None, Query(alias="jobId", ge=1, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Response:
    """List the caller's invitations, or for an admin any sponsor's, the newest first."""
    shown = sponsor_id if caller.has_role("Admin") else caller.id
    async with context.database.connection() as conn:
        rows = await invitations.list_invitations(
            conn,
            sponsor_id=shown,
            status=status,
            phone=_phone(phone),
            job_id=job_id,
            before_id=position_of(cursor),
            limit=limit + 1,
        )
    more = len(rows) > limit
    items = [_describe(row) for row in rows[:limit]]
    return JsonResponse({"items": items, "next_cursor": encode_cursor(rows[limit - 1]["id"]) if more else None})


@router.get("/{invitation_id}", response_model=InvitationDetail)
async def show_invitation(invitation_id: InvitationId, caller: SponsorOrAdmin, context: CurrentContext) -> Response:
    """Show an invitation with its link, every message and every attempt to send it."""
    row = await _own(context, caller, invitation_id)
    async with context.database.connection() as conn:
        messages = await deliveries.list_attempts(conn, invitation_id)
    token = context.sealer.open(row["token_sealed"], bound_to=tokens.seal_name(invitation_id)).decode()
    link = tokens.link_to(context.settings.link_base_url, token)
    more = {
        "invitationLink": link,
        "consentEvidence": row["consent_evidence"],
        "isCommercial": row["is_commercial"],
        "deliveries": [_message(one) for one in messages],
    }
    return JsonResponse(_describe(row) | more)


@router.post("/{invitation_id}/resend", status_code=202, response_model=FactsAnswer)
async def resend_invitation(invitation_id: InvitationId, caller: SponsorOrAdmin, context: CurrentContext) -> Response:
    """Send the message of an open invitation again."""
    row = await _own(context, caller, invitation_id)
    async with context.database.transaction() as conn:
        delivery_id = await commands.resend_invitation(
            conn,
            caller,
            invitation_id,
            provider=context.settings.provider_of(row["channel"]),
            pause=timedelta(seconds=context.settings.resend_pause_seconds),
        )
    data = {"invitationId": invitation_id, "deliveryId": delivery_id}
    return JsonResponse({"success": True, "message": "Davet yeniden gönderiliyor", "data": data}, status_code=202)


@router.post("/{invitation_id}/cancel", response_model=FactsAnswer)
async def cancel_invitation(invitation_id: InvitationId, caller: SponsorOrAdmin, context: CurrentContext) -> Response:
    """Take an open invitation back; its codes are free again."""
    await _own(context, caller, invitation_id)
    async with context.database.transaction() as conn:
        await commands.cancel_invitation(conn, caller, invitation_id)
    return JsonResponse({"success": True, "message": "Davet iptal edildi", "data": {"invitationId": invitation_id}})


async def _own(context: Context, caller: Principal, invitation_id: int) -> Row:
    """Another sponsor's invitation does not exist for the caller, so that ids tell nothing."""
    async with context.database.connection() as conn:
        row = await invitations.find_invitation(conn, invitation_id)
    if row is None or (row["sponsor_id"] != caller.id and not caller.has_role("Admin")):
        raise InvitationUnknown
    return row


def _phone(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return read_phone(text)
    except PhoneInvalidError as problem:
        raise Invalid(fields=[FieldError("phone", str(problem))]) from None


def _describe(row: Row) -> dict[str, Any]:
    return {
        "invitationId": row["id"],
        "sponsorId": row["sponsor_id"],
        "jobId": row["job_id"],
        "phone": row["phone"],
        "farmerName": row["farmer_name"],
        "email": row["email"],
        "notes": row["notes"],
        "packageTier": row["tier"],
        "codeCount": row["code_count"],
        "channel": row["channel"],
        "status": row["status"],
        "statusReason": row["closed_reason"],
        "deliveryStatus": row["delivery_state"],
        "createdDate": write_moment(row["created_at"]),
        "expiresDate": write_moment(row["expires_at"]),
        "closedDate": write_moment(row["closed_at"]),
    }


def _message(row: Row) -> dict[str, Any]:
    return {
        "deliveryId": str(row["id"]),
        "ordinal": row["ordinal"],
        "channel": row["channel"],
        "status": row["state"],
        "errorCode": row["error_code"],
        "errorMessage": row["error_message"],
        "createdDate": write_moment(row["created_at"]),
        "updatedDate": write_moment(row["updated_at"]),
        "attempts": row["attempts"],
    }
