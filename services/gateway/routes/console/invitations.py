"""Invitations: what was sent, what became of it, sending again, taking back; and who is the sponsor."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response

from services.gateway.routes.console.door import SponsorOrAdmin, explain, make_router
from services.gateway.routes.console.refusals import ApiRefused
from services.gateway.routes.console.visitor import Visitor

router = make_router()

API: Final = "/api/Sponsorship"
INVITATIONS: Final = f"{API}/farmer/invitations"
JOBS: Final = f"{INVITATIONS}/bulk"
STATUSES: Final = ("Pending", "Accepted", "Expired", "Cancelled")
_JOBS_SHOWN: Final = 5


@router.get("/invitations")
async def list_invitations(
    visitor: SponsorOrAdmin, status: str = "", phone: str = "", sponsor: str = "", job: str = "", cursor: str = ""
) -> Response:
    """List invitations, and above them the newest jobs."""
    filters = {"status": status, "phone": phone, "sponsor": sponsor, "job": job}
    page: dict[str, Any] = {"items": [], "next_cursor": None}
    problem = None
    try:
        page = await visitor.get(
            INVITATIONS, status=status, phone=phone, sponsorId=sponsor, jobId=job, cursor=cursor, limit=25
        )
    except ApiRefused as refused:
        if refused.status >= 500:  # noqa: PLR2004 - HTTP's border between our faults and a wrong filter
            raise
        problem = explain(visitor, refused)
    jobs = await visitor.get(JOBS, limit=_JOBS_SHOWN, sponsorId=sponsor if sponsor.isdigit() else "")
    return visitor.page(
        "invitations.html",
        page=page,
        jobs=jobs["items"],
        filters=filters,
        filtered=any(filters.values()),
        cursor=cursor,
        problem=problem,
        statuses=STATUSES,
    )


@router.get("/invitations/{invitation_id}")
async def show_invitation(visitor: SponsorOrAdmin, invitation_id: int) -> Response:
    """Show one invitation with every message and attempt."""
    found = await visitor.get(f"{INVITATIONS}/{invitation_id}")
    return visitor.page("invitation_detail.html", invitation=found)


@router.post("/invitations/{invitation_id}/resend")
async def resend_invitation(visitor: SponsorOrAdmin, invitation_id: int) -> Response:
    """Send the message of an open invitation again."""
    await visitor.send("POST", f"{INVITATIONS}/{invitation_id}/resend")
    return visitor.go(f"/invitations/{invitation_id}", done="invitation_resent")


@router.post("/invitations/{invitation_id}/cancel")
async def cancel_invitation(visitor: SponsorOrAdmin, invitation_id: int) -> Response:
    """Take an open invitation back."""
    await visitor.send("POST", f"{INVITATIONS}/{invitation_id}/cancel")
    return visitor.go(f"/invitations/{invitation_id}", done="invitation_cancelled")


async def pick_sponsor(visitor: Visitor, sponsor: str, search: str, cursor: str) -> dict[str, Any] | Response:
    """Give the sponsor that was chosen with its stock, or the page on which to choose one."""
    person = visitor.person
    if person is not None and not person.has_role("Admin"):
        stock = await visitor.get(f"{API}/codes")
        return {"sponsorId": person.id, "fullName": person.full_name, "isActive": True, "tiers": stock["tiers"]}
    if sponsor.isascii() and sponsor.isdigit():
        found = await visitor.get(f"{API}/admin/sponsors", search=sponsor, limit=200)
        chosen = next((each for each in found["items"] if str(each["sponsorId"]) == sponsor), None)
        if chosen:
            result: dict[str, Any] = chosen
            return result
    page = await visitor.get(f"{API}/admin/sponsors", search=search, cursor=cursor, limit=20)
    me = await visitor.get("/api/v1/auth/me")
    grants = me.get("on_behalf_of", [])
    return visitor.page(
        "sponsor_picker.html",
        page=page,
        search=search,
        cursor=cursor,
        path=visitor.request.url.path,
        granted=[each["sponsorId"] for each in page["items"] if grants == "all" or each["sponsorId"] in grants],
    )
