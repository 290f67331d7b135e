"""Delivery reports that providers push to us. Public addresses, so nothing is believed without its proof."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.invitations.commands.settling import settle_reports
from services.invitations.routes.doors import CurrentContext
from services.invitations.verimor import parse_reports
from shared.errors import Forbidden, NotFound, TooLarge

router = APIRouter(prefix="/callbacks", tags=["callbacks"])

_LONGEST_BODY = 1024 * 1024


class ReportForged(Forbidden):
    """A report does not carry the key that only the provider was told."""

    code = "CALLBACK_KEY_INVALID"
    message = "The key of this callback is not valid."


class ProviderNotInUse(NotFound):
    """We have no account at this provider."""

    code = "PROVIDER_NOT_IN_USE"
    message = "This provider is not in use here."


@router.post("/verimor", response_class=Response)
async def take_verimor_reports(request: Request, context: CurrentContext, key: str = "") -> Response:
    """Take delivery reports of Verimor; it signs nothing, so the address that it was told carries a key.

    Its guide asks for 200 and no other code: whatever else it is answered, it reports three times more.
    """
    if context.verimor is None:
        raise ProviderNotInUse
    if not context.verimor.is_report_key(key):
        raise ReportForged
    reports = parse_reports(await _body(request))
    async with context.database.transaction() as conn:
        await settle_reports(conn, reports)
    return Response()


@router.post("/twilio", status_code=204)
async def take_twilio_report(request: Request, context: CurrentContext) -> Response:
    """Take a status callback of Twilio, if Twilio has signed it."""
    if context.twilio is None:
        raise ProviderNotInUse
    report = context.twilio.read_callback(
        query=request.url.query, body=await _body(request), signature=request.headers.get("x-twilio-signature", "")
    )
    async with context.database.transaction() as conn:
        await settle_reports(conn, [report])
    return Response(status_code=204)


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST_BODY:
            raise TooLarge
    return body
