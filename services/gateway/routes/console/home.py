"""How everything is, at a glance."""

from __future__ import annotations

from fastapi import Response

from services.gateway.routes.console.door import SignedIn, make_router, start_of
from services.gateway.routes.operations import report

router = make_router()


@router.get("/")
async def show_home(visitor: SignedIn) -> Response:
    """Show how everything is; whoever has nothing to do with that begins elsewhere."""
    if (start := start_of(visitor)) != "/":
        return visitor.go(start)
    await visitor.get("/api/v1/auth/me")
    return visitor.page("home.html", services=(await report(visitor.request.state.context))["upstreams"])
