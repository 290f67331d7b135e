"""The connection to Microsoft Partner Center: signing in by device code, its state, syncs."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from fastapi import Response

from services.gateway.routes.console.door import Admin, make_router
from services.gateway.routes.console.visitor import Visitor

router = make_router()

_API: Final = "/api/referrals"


@router.get("/partner-center")
async def show_partner_center(visitor: Admin, cursor: str = "") -> Response:
    """Show how the connection is, and the syncs with their counts."""
    connection = await visitor.get(f"{_API}/connection")
    return visitor.page(
        "partner_center.html", connection=connection, cursor=cursor, syncs=await _syncs(visitor, cursor)
    )


@router.get("/partner-center/syncs")
async def refresh_syncs(visitor: Admin) -> Response:
    """Show the newest syncs again, as a part of the page."""
    return visitor.page("fragments/syncs.html", cursor="", syncs=await _syncs(visitor, ""))


@router.post("/partner-center/sign-in")
async def begin_sign_in(visitor: Admin) -> Response:
    """Ask Microsoft for a code."""
    begun = await visitor.send("POST", f"{_API}/sign-in")
    return visitor.go(f"/partner-center/sign-in/{begun['sign_in_id']}")


@router.get("/partner-center/sign-in/{sign_in_id}")
async def show_sign_in(visitor: Admin, sign_in_id: UUID) -> Response:
    """Show the code, how long it is good, and whether somebody has used it."""
    sign_in = await visitor.get(f"{_API}/sign-in/{sign_in_id}")
    return visitor.page("partner_center_sign_in.html", sign_in=sign_in)


@router.get("/partner-center/sign-in/{sign_in_id}/state")
async def refresh_sign_in(visitor: Admin, sign_in_id: UUID) -> Response:
    """Show its state again, as a part of the page."""
    sign_in = await visitor.get(f"{_API}/sign-in/{sign_in_id}")
    return visitor.page("fragments/sign_in_state.html", sign_in=sign_in)


@router.post("/partner-center/reset")
async def reset_connection(visitor: Admin) -> Response:
    """Forget the stored sign-in."""
    await visitor.send("DELETE", f"{_API}/connection")
    return visitor.go("/partner-center", done="connection_reset")


@router.post("/partner-center/sync")
async def request_sync(visitor: Admin) -> Response:
    """Ask for a sync now."""
    full = visitor.form.get("full") == "true"
    answer = await visitor.send("POST", f"{_API}/sync", query={"full": "true"} if full else {})
    return visitor.go("/partner-center", done="sync_requested" if answer["enqueued"] else "sync_already")


async def _syncs(visitor: Visitor, cursor: str) -> Any:
    return await visitor.get(f"{_API}/sync", limit=15, cursor=cursor)
