"""Codes: what each sponsor has of each tier, what farmers took, new ones."""

from __future__ import annotations

from datetime import date, datetime
from http import HTTPStatus
from typing import Any, Final, Literal

from fastapi import Response

from services.gateway.domain.console.charts import spent_chart
from services.gateway.routes.console.door import Admin, SponsorOrAdmin, explain, make_router
from services.gateway.routes.console.invitations import API
from services.gateway.routes.console.refusals import ApiRefused
from services.gateway.routes.console.visitor import Visitor

router = make_router()

TIERS: Final = ("S", "M", "L", "XL")
SPANS: Final = (7, 30, 90)


@router.get("/codes")
async def show_codes(
    visitor: SponsorOrAdmin,
    search: str = "",
    sponsor: str = "",
    days: Literal["7", "30", "90"] = "30",
    cursor: str = "",
) -> Response:
    """Show stock and use: all sponsors to an admin, their own to a sponsor."""
    return await _codes(visitor, search=search, sponsor=sponsor, days=int(days), cursor=cursor)


@router.post("/codes")
async def add_codes(visitor: Admin) -> Response:
    """Add codes to a sponsor's stock."""
    form = visitor.form
    body: dict[str, Any] = {"sponsorId": form.number("sponsor_id"), "tier": form.get("tier")}
    if given := form.get("given"):
        body["codes"] = given.split()
    else:
        body["count"] = form.number("count")
    if until := form.get("expires"):
        body["expiresAt"] = _end_of(until, visitor) or until
    try:
        answer = await visitor.send("POST", f"{API}/admin/codes", body)
    except ApiRefused as refused:
        return await _codes(visitor, refused=refused)
    return visitor.go(f"/codes?sponsor={answer['data']['sponsorId']}", done="codes_added", n=answer["data"]["count"])


async def _codes(
    visitor: Visitor,
    *,
    search: str = "",
    sponsor: str = "",
    days: int = 30,
    cursor: str = "",
    refused: ApiRefused | None = None,
) -> Response:
    form = visitor.form
    is_admin = visitor.person is not None and visitor.person.has_role("Admin")
    if is_admin:
        page = await visitor.get(f"{API}/admin/sponsors", search=sponsor or search, cursor=cursor, limit=20)
        usage = await visitor.get(f"{API}/admin/codes/usage", sponsorId=sponsor if sponsor.isdigit() else "", days=days)
    else:
        own = await visitor.get(f"{API}/codes")
        page = {"items": [{"sponsorId": own["sponsorId"], "tiers": own["tiers"]}], "next_cursor": None}
        usage = await visitor.get(f"{API}/codes/usage", days=days)
    spent = [(date.fromisoformat(each["day"]), each["tier"], each["spent"]) for each in usage["spent"]]
    today = datetime.now(visitor.console.texts.time_zone).date()
    return visitor.page(
        "codes.html",
        status=refused.status if refused else HTTPStatus.OK,
        page=page,
        chart=spent_chart(spent, today, days),
        filters={"search": search, "sponsor": sponsor, "days": days},
        cursor=cursor,
        tiers=TIERS,
        spans=SPANS,
        given={name: form.get(name) for name in ("sponsor_id", "tier", "count", "given", "expires")},
        problem=explain(visitor, refused) if refused else None,
    )


def _end_of(day: str, visitor: Visitor) -> str | None:
    """Give the last moment of a day, as the interface takes it."""
    try:
        last = datetime.combine(date.fromisoformat(day), datetime.max.time().replace(microsecond=0))
    except ValueError:
        return None
    return last.replace(tzinfo=visitor.console.texts.time_zone).isoformat()
