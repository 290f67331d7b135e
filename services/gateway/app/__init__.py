"""The gateway, wired: the door in front, the framework behind it for the gateway's own pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from services.gateway.app.access_log import AccessLog
from services.gateway.app.door import Door
from services.gateway.app.server import make_server
from services.gateway.consumers import catch_up, follow_revocations, forget_revocations
from services.gateway.context import Gateway, make_console, make_gateway
from services.gateway.own_door import OwnDoor
from services.gateway.routes import ROUTERS, Addresses
from services.gateway.settings import GatewaySettings
from shared.web import RequestThread, add_problem_handlers

__all__ = ["create_app", "make_server", "serve"]


def create_app(gateway: Gateway) -> Door:
    """Make the gateway's ASGI application."""
    access = AccessLog(gateway.settings.service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        tasks = [
            asyncio.create_task(follow_revocations(gateway), name="revocations"),
            asyncio.create_task(forget_revocations(gateway), name="forget revocations"),
        ]
        await catch_up(gateway, seconds=gateway.settings.catch_up_seconds)
        try:
            yield {"context": gateway, "console": console}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            gateway.close()
            access.flush()

    pages = FastAPI(title="Partner Hub", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    for router in ROUTERS:
        pages.include_router(router)
    add_problem_handlers(pages)
    pages.add_middleware(RequestThread)
    door = Door(gateway, pages, Addresses(), access)
    console = make_console(gateway.settings, OwnDoor(door, unread_seconds=gateway.settings.unread_seconds))
    return door


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM, then finish the requests at hand."""
    gateway = make_gateway(settings)
    with contextlib.suppress(KeyboardInterrupt):
        await make_server(create_app(gateway), settings).serve()
