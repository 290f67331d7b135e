"""A whole gateway on a real port, in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.gateway.app import create_app, make_server
from services.gateway.app.door import Door
from services.gateway.app.header_guard import GuardLimits
from services.gateway.context import Gateway, make_gateway
from services.gateway.settings import GatewaySettings
from shared.draining import DrainingServer
from tests.support.eventually import eventually
from tests.support.tokens import Issuer

# Port 1 answers nobody: a broker or a service that is away.
AWAY = "127.0.0.1:1"


@dataclass
class Running:
    """A gateway that runs, and how to call it."""

    port: int
    gateway: Gateway
    door: Door
    server: DrainingServer
    issuer: Issuer
    serving: asyncio.Task[None]

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Open a client."""
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=60, **options)

    @property
    def limits(self) -> GuardLimits:
        """What its connections may do, also those that are open."""
        guard: Any = self.server.config.http_protocol_class
        limits: GuardLimits = guard.limits
        return limits

    async def stop(self) -> None:
        """Stop as SIGTERM does."""
        self.server.should_exit = True
        await self.serving


@asynccontextmanager
async def running_gateway(service_url: str = f"http://{AWAY}", **settings: Any) -> AsyncIterator[Running]:
    """Run a gateway in front of one service that stands for all four."""
    issuer = settings.pop("issuer", None) or Issuer()
    urls = {f"{name}_url": service_url for name in ("auth", "referrals", "invitations", "audit")}
    options: dict[str, Any] = {
        **urls,
        "amqp_url": f"amqp://guest:guest@{AWAY}/",
        "port": 0,
        "catch_up_seconds": 60,
        "farewell_seconds": 0.0,
        "drain_seconds": 2,
    }
    gateway = make_gateway(GatewaySettings(**(options | settings)), verifier=issuer.verifier())
    door = create_app(gateway)
    server = make_server(door, gateway.settings)
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await eventually(lambda: server.started)
        running = Running(port, gateway, door, server, issuer, serving)
        try:
            yield running
        finally:
            await running.stop()


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    yield
