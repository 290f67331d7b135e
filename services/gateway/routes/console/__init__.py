"""The pages for people: each calls the interface as any client does, in the name of whoever is signed in."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from services.gateway.routes.console import files, home, signing_in

ROUTERS: Final[list[APIRouter]] = [files.router, signing_in.router, home.router]
