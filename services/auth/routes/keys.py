"""The public keys."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from services.auth.commands.keys import key_ring
from services.auth.routes.door import ContextHere

router = APIRouter(tags=["keys"])


@router.get("/.well-known/jwks.json")
async def public_keys(context: ContextHere, response: Response) -> dict[str, Any]:
    """Give the keys with which tokens are checked (RFC 7517); they may be cached for a minute."""
    async with context.database.transaction() as conn:
        ring = await key_ring(conn, context.sealer, context.clock())
    response.headers["cache-control"] = "public, max-age=60"
    return ring.jwks()
