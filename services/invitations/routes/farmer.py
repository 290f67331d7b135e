"""What a farmer sees: the invitation behind the link, accepting it, and refusing further messages.

Reading a link changes nothing: phones and chat programs open links by themselves to show a preview.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, select_autoescape

from services.invitations.commands import invitations as commands
from services.invitations.context import Context
from services.invitations.domain import tokens
from services.invitations.domain.invitations import LinkUnknown, TriedTooOften
from services.invitations.domain.quiet import ISTANBUL
from services.invitations.routes.doors import CurrentContext
from services.invitations.schemas.answers import AcceptanceAnswer, OfferAnswer, Said
from services.invitations.store import invitations
from shared import telemetry
from shared.db import Row
from shared.errors import Failure
from shared.moments import write_moment
from shared.openapi import failures
from shared.web import JsonResponse, problem

# A browser gets everything as a page.
_AS_PAGE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/html": {}}}}

router = APIRouter(prefix="/ref", tags=["farmer"], responses=_AS_PAGE | failures("text/html"))

_PAGES: Final = Environment(
    loader=PackageLoader("services.invitations", "pages"), autoescape=select_autoescape(default=True)
)
_TITLE: Final = "Davetiniz var"


def _token(token: str, context: CurrentContext) -> str:
    """Let a token in that can be one, unless this address has tried too many."""
    wait = context.throttle.wait_for(telemetry.current().ip or "unknown")
    if wait:
        raise TriedTooOften(retry_after=math.ceil(wait))
    if not tokens.is_token(token):
        raise LinkUnknown
    return token


Token = Annotated[str, Depends(_token)]


@router.get("/{token}", response_model=OfferAnswer)
async def show_offer(request: Request, token: Token, context: CurrentContext) -> Response:
    """Show what the invitation is, as a page or as JSON."""
    try:
        invitation = await _find(context, token)
        commands.check_acceptable(invitation)
    except Failure as failure:
        return _refuse(request, failure)
    if not _wants_page(request):
        return JsonResponse(_describe(invitation), headers=_PRIVATE)
    lines = [
        f"Sayın {invitation['farmer_name'] or 'çiftçimiz'},",
        f"{invitation['sponsor_name']} size {invitation['code_count']} adet {invitation['tier']} paketi hediye etti.",
        f"Son gün: {invitation['expires_at'].astimezone(ISTANBUL):%d.%m.%Y, saat %H:%M}",
    ]
    return _page(_TITLE, lines, action=f"/ref/{token}/accept", button="Kabul ediyorum", opt_out=f"/ref/{token}/opt-out")


@router.post("/{token}/accept", response_model=AcceptanceAnswer)
async def accept_invitation(request: Request, token: Token, context: CurrentContext) -> Response:
    """Accept the invitation: its codes are the farmer's, once."""
    try:
        async with context.database.transaction() as conn:
            acceptance = await commands.accept_invitation(conn, token)
    except LinkUnknown as failure:
        return _refuse(request, failure)
    except Failure as failure:
        async with context.database.transaction() as conn:
            await commands.record_refused_acceptance(conn, token, failure)
        return _refuse(request, failure)
    message = f"{acceptance.sponsor_name} tarafından hediye edilen {len(acceptance.codes)} kod artık sizin"
    if _wants_page(request):
        return _page("Davet kabul edildi", [f"{message}:"], codes=acceptance.codes)
    data = {"packageTier": acceptance.tier, "codeCount": len(acceptance.codes), "codes": acceptance.codes}
    return JsonResponse({"success": True, "message": message, "data": data}, headers=_PRIVATE)


@router.get("/{token}/opt-out", response_class=HTMLResponse)
async def ask_about_opt_out(request: Request, token: Token, context: CurrentContext) -> Response:
    """Ask whether the farmer really wants no more messages."""
    try:
        await _find(context, token)
    except Failure as failure:
        return _refuse(request, failure)
    lines = ["Onaylarsanız bu numaraya bir daha davet mesajı gönderilmez."]
    return _page("Mesaj almak istemiyorum", lines, action=f"/ref/{token}/opt-out", button="Onaylıyorum")


@router.post("/{token}/opt-out", response_model=Said)
async def opt_out(request: Request, token: Token, context: CurrentContext) -> Response:
    """Note that the farmer wants no more messages, from nobody."""
    try:
        async with context.database.transaction() as conn:
            await commands.opt_out(conn, token)
    except Failure as failure:
        return _refuse(request, failure)
    message = "Bu numaraya bir daha davet mesajı gönderilmeyecek"
    if _wants_page(request):
        return _page("Kaydedildi", [f"{message}."])
    return JsonResponse({"success": True, "message": message}, headers=_PRIVATE)


# The address is the secret: it must not stay in caches or travel on in a Referer header.
_PRIVATE: Final = {"cache-control": "no-store", "referrer-policy": "no-referrer", "vary": "accept"}


async def _find(context: Context, token: str) -> Row:
    async with context.database.connection() as conn:
        return await invitations.get_by_token(conn, tokens.hash_of(token))


def _wants_page(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return "text/html" in accept and "application/json" not in accept


def _describe(invitation: Row) -> dict[str, Any]:
    return {
        "success": True,
        "data": {
            "sponsorName": invitation["sponsor_name"],
            "farmerName": invitation["farmer_name"],
            "packageTier": invitation["tier"],
            "codeCount": invitation["code_count"],
            "status": invitation["status"],
            "expiresDate": write_moment(invitation["expires_at"]),
        },
    }


def _refuse(request: Request, failure: Failure) -> Response:
    if not _wants_page(request):
        return problem(failure)
    return _page(failure.message, [], status=failure.status)


def _page(
    title: str,
    lines: Sequence[str],
    *,
    codes: Sequence[str] = (),
    action: str | None = None,
    button: str = "",
    opt_out: str | None = None,
    status: int = 200,
) -> Response:
    nonce = secrets.token_urlsafe(16)
    html = _PAGES.get_template("invitation.html").render(
        title=title, lines=lines, codes=codes, action=action, button=button, opt_out=opt_out, nonce=nonce
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(html, status_code=status, headers=_PRIVATE | {"content-security-policy": policy})
