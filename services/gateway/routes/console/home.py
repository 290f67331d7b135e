"""How everything is, at a glance."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Response

from services.gateway.routes.console.door import SignedIn, explain, make_router, start_of
from services.gateway.routes.console.invitations import JOBS
from services.gateway.routes.console.queues import look
from services.gateway.routes.console.refusals import ApiRefused, NotForThem
from services.gateway.routes.console.visitor import Visitor
from services.gateway.routes.operations import report

router = make_router()


@router.get("/")
async def show_home(visitor: SignedIn) -> Response:
    """Show how everything is; whoever has nothing to do with that begins elsewhere."""
    if (start := start_of(visitor)) != "/":
        return visitor.go(start)
    return visitor.page("home.html", **await _state(visitor))


@router.get("/overview")
async def refresh_home(visitor: SignedIn) -> Response:
    """Show it again, as a part of the page."""
    if start_of(visitor) != "/":
        raise NotForThem
    return visitor.page("fragments/home.html", **await _state(visitor))


async def _state(visitor: Visitor) -> dict[str, Any]:
    """Ask for everything at once; what is away does not hide the rest."""
    ready, queues, connection, syncs, jobs = await asyncio.gather(
        report(visitor.request.state.context),
        look(visitor),
        _part(visitor, "/api/referrals/connection"),
        _part(visitor, "/api/referrals/sync", limit=1),
        _part(visitor, JOBS, running="true", limit=10),
    )
    return {
        "services": ready["upstreams"],
        "parts": ready["parts"],
        "queues": {each.service: each for each in queues},
        "connection": connection,
        "syncs": syncs,
        "jobs": jobs,
    }


async def _part(visitor: Visitor, path: str, **query: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await visitor.get(path, **query)
    except ApiRefused as refused:
        return {"problem": explain(visitor, refused), "items": []}
    return {"problem": None} | found
