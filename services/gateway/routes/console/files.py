"""Style sheet, scripts and icon: few and small, read once."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from services.gateway.context import PAGES
from shared.errors import NotFound

router = APIRouter(include_in_schema=False)

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES: Final = {
    path.name: (path.read_bytes(), _TYPES[path.suffix])
    for path in (PAGES / "static").iterdir()
    if path.suffix in _TYPES
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@router.get("/static/{name}")
async def give_file(name: str, v: str = "") -> Response:
    """Give a static file; an address with its version never changes its content."""
    if name not in _FILES:
        raise NotFound
    content, media_type = _FILES[name]
    headers = {"cache-control": _FOR_EVER if v else "no-cache"}
    return Response(content, media_type=media_type, headers=headers)
