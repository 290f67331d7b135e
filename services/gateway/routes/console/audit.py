"""The audit log: finding records, opening one, taking a copy, and whether the log is as it was written."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from fastapi import Response

from services.gateway.domain.console.places import id_in_path
from services.gateway.routes.console.door import AuditorOrAdmin, explain, make_router
from services.gateway.routes.console.jobs import download
from services.gateway.routes.console.refusals import ApiRefused
from services.gateway.routes.console.visitor import Visitor

router = make_router()

_AUDIT: Final = "/api/v1/audit"
_FILTERS: Final = ("actor", "action", "target", "outcome", "request_id", "service", "on_behalf_of")
OUTCOMES: Final = ("success", "failure", "denied")
SERVICES: Final = ("auth", "referrals", "invitations", "audit")


@router.get("/audit")
async def list_events(visitor: AuditorOrAdmin, cursor: str = "") -> Response:
    """Find records, the newest first, and say whether the log was found whole."""
    filters = _asked(visitor)
    page: dict[str, Any] = {"items": [], "next_cursor": None}
    problem = None
    try:
        page = await visitor.get(f"{_AUDIT}/events", **_query(visitor, filters), cursor=cursor, limit=50)
    except ApiRefused as refused:
        if refused.status >= 500:  # noqa: PLR2004 - HTTP's border between our faults and a wrong filter
            raise
        problem = explain(visitor, refused)
    return visitor.page(
        "audit.html",
        page=page,
        filters=filters,
        filtered=any(filters.values()),
        cursor=cursor,
        problem=problem,
        outcomes=OUTCOMES,
        services=SERVICES,
        verification=await visitor.get(f"{_AUDIT}/verification"),
    )


@router.get("/audit/verification")
async def show_verification(visitor: AuditorOrAdmin) -> Response:
    """Show how the last verification ended, and what is queued or running."""
    return visitor.page("fragments/verification.html", verification=await visitor.get(f"{_AUDIT}/verification"))


@router.post("/audit/verification")
async def request_verification(visitor: AuditorOrAdmin) -> Response:
    """Have the whole log verified."""
    await visitor.send("POST", f"{_AUDIT}/verification")
    return visitor.go("/audit", done="verification_requested")


@router.get("/audit/export")
async def export_events(
    visitor: AuditorOrAdmin,
    format: Literal["csv", "ndjson", "ocsf"] = "csv",  # noqa: A002 - as in addresses
) -> Response:
    """Give all records that fit the filter, as a file."""
    return await download(visitor, f"{_AUDIT}/export", **_query(visitor, _asked(visitor)), format=format)


@router.get("/audit/{event_id}")
async def show_event(visitor: AuditorOrAdmin, event_id: str) -> Response:
    """Show one record whole."""
    event = await visitor.get(f"{_AUDIT}/events/{id_in_path(event_id)}")
    return visitor.page("audit_event.html", event=event)


def _asked(visitor: Visitor) -> dict[str, str]:
    query = visitor.request.query_params
    return {name: query.get(name, "").strip() for name in ("from", "to", *_FILTERS)}


def _query(visitor: Visitor, filters: dict[str, str]) -> dict[str, str]:
    """Give the filter as the interface takes it: times with their zone, which people leave out."""
    moments = {name: _moment(visitor, filters[name]) for name in ("from", "to")}
    return filters | moments


def _moment(visitor: Visitor, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text  # the service says what is wrong with it
    return (moment if moment.tzinfo else moment.replace(tzinfo=visitor.console.texts.time_zone)).isoformat()
