"""The gateway's own addresses: how it is, what the interface offers, and the console for people."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from services.gateway.routes import documents, operations
from services.gateway.routes.console import ROUTERS as CONSOLE

ROUTERS: Final[list[APIRouter]] = [operations.router, documents.router, *CONSOLE]


class Addresses:
    """Which paths are the gateway's own: those of its routes, and all below the first word of one that has parts."""

    def __init__(self) -> None:
        paths = [route.path for router in ROUTERS for route in router.routes if hasattr(route, "path")]
        self._whole = frozenset(path.encode() for path in paths)
        self._firsts = frozenset(path.split("/")[1].encode() for path in paths if "{" in path)

    def __contains__(self, path: object) -> bool:
        return path in self._whole or (isinstance(path, bytes) and path.split(b"/", 2)[1] in self._firsts)
