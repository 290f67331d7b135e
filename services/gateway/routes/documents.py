"""The description of the interface, for people."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from services.gateway.context import PAGES

router = APIRouter(include_in_schema=False)

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
}


@router.get("/docs")
async def show_documents() -> Response:
    """Show the interface, and let people try it."""
    return HTMLResponse((PAGES / "docs.html").read_bytes(), headers=_HEADERS)
