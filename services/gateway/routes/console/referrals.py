"""Referrals of Partner Center: finding, sorting, opening one."""

from __future__ import annotations

import re
from datetime import date, datetime
from http import HTTPStatus
from typing import Any, Final

from fastapi import Response

from services.gateway.routes.console.door import Admin, explain, make_router
from services.gateway.routes.console.refusals import ApiRefused
from services.gateway.routes.console.visitor import Visitor

router = make_router()

_REFERRALS: Final = "/api/referrals"
SORTS: Final = (
    "-updated_at", "updated_at", "company_name", "-company_name", "status", "-status", "deal_value", "-deal_value",
)  # fmt: skip
STATUSES: Final = ("New", "Active", "Closed")
_ID: Final = re.compile(r"[A-Za-z0-9_.\-]{1,200}")


@router.get("/referrals")
async def list_referrals(visitor: Admin, cursor: str = "") -> Response:
    """Find referrals."""
    names = ("text", "status", "substatus", "type", "country", "since", "sort")
    filters = {name: visitor.request.query_params.get(name, "").strip() for name in names}
    sort = filters["sort"] if filters["sort"] in SORTS else SORTS[0]
    page: dict[str, Any] = {"items": [], "next_cursor": None}
    problem = None
    wanted = {name: filters[name] for name in ("text", "status", "substatus", "type", "country")}
    try:
        page = await visitor.get(
            _REFERRALS, **wanted, updated_since=_since(visitor, filters["since"]), sort=sort, cursor=cursor, limit=25
        )
    except ApiRefused as refused:
        if refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        problem = explain(visitor, refused)
    return visitor.page(
        "referrals.html",
        page=page,
        filters=filters,
        filtered=any(filters.values()),
        sort=sort,
        cursor=cursor,
        problem=problem,
        statuses=STATUSES,
        sorts=SORTS,
    )


@router.get("/referrals/{referral_id}")
async def show_referral(visitor: Admin, referral_id: str) -> Response:
    """Show one referral: its fields, what Microsoft sent, the history of its status."""
    known = _ID.fullmatch(referral_id) and referral_id.strip(".") and referral_id not in {"sync", "queues"}
    if not known:
        raise ApiRefused(HTTPStatus.NOT_FOUND, "REFERRAL_NOT_FOUND", "")
    return visitor.page("referral.html", referral=await visitor.get(f"{_REFERRALS}/{referral_id}"))


def _since(visitor: Visitor, day: str) -> str:
    """Give the first moment of a day, as the interface takes it."""
    try:
        first = datetime.combine(date.fromisoformat(day), datetime.min.time())
    except ValueError:
        return day
    return first.replace(tzinfo=visitor.console.texts.time_zone).isoformat()
