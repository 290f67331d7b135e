"""The sandbox's server: TLS with its own authority, and a count of everything that comes in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from sandbox.microsoft import certificates, control, routes
from sandbox.microsoft.state import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send


class Counting:
    """Counts each request before anything can go wrong with it."""

    def __init__(self, app: ASGIApp, sandbox: Sandbox) -> None:
        self._app = app
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count, then serve."""
        if scope["type"] == "http" and not scope["path"].startswith("/_sandbox"):
            headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
            counters = self._sandbox.counters
            counters.requests[f"{scope['method']} {scope['path']}"] += 1
            if "authorization" in headers:
                counters.authorization_hosts[headers.get("host", "")] += 1
            if scope["path"].startswith("/v1.0/"):
                counters.client_request_ids[headers.get("client-request-id", "")] += 1
        await self._app(scope, receive, send)


class MeantDrops(logging.Filter):
    """A connection that the sandbox drops on purpose is no error of the sandbox."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every other record through."""
        return not (record.exc_info and record.exc_info[0] is routes.ConnectionDropped)


def create_app(*, referrals: int = 250, auto_approve: bool = False) -> FastAPI:
    """Make a Microsoft with so many referrals."""
    app = FastAPI(title="Sandbox Microsoft", docs_url="/_sandbox/docs", openapi_url="/_sandbox/openapi.json")
    app.state.sandbox = Sandbox(referrals=referrals, auto_approve=auto_approve)
    app.include_router(control.router)
    app.include_router(routes.router)
    app.add_middleware(Counting, sandbox=app.state.sandbox)
    return app


def run(
    host: str, port: int, directory: Path, *, hostnames: Sequence[str] = (), referrals: int, auto_approve: bool
) -> None:
    """Serve until a signal; `ca.pem` is in the folder before the port listens."""
    chain, key = certificates.issue(directory, hostnames)
    logging.getLogger("uvicorn.error").addFilter(MeantDrops())
    uvicorn.run(
        create_app(referrals=referrals, auto_approve=auto_approve),
        host=host,
        port=port,
        ssl_certfile=chain,
        ssl_keyfile=key,
        log_level="warning",
        access_log=False,
        # A client that is gone without a TLS goodbye would otherwise hold the end up for 30 s.
        timeout_graceful_shutdown=1,
    )
