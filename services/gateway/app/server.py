"""uvicorn around the door, with guarded connections and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from services.gateway.app.header_guard import GuardLimits, guarded
from services.gateway.settings import GatewaySettings

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Takes its leave of the clients before it closes their connections.

    uvicorn closes idle connections at once, and a request that is on its way into one is lost. So for a moment each
    answer says `connection: close`, which clients that are busy follow; new connections go to another replica.
    """

    def __init__(
        self, config: uvicorn.Config, limits: GuardLimits, farewell_seconds: float, on_draining: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._limits = limits
        self._farewell_seconds = farewell_seconds
        self._on_draining = on_draining

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then shut down as uvicorn does."""
        log.info("draining: each answer is the last one on its connection")
        self._limits.draining = True
        for server in self.servers:
            server.close()
        await self._say_farewell()
        self._on_draining()
        await super().shutdown(sockets)

    async def _say_farewell(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._farewell_seconds
        while self.server_state.connections and loop.time() < end:  # noqa: ASYNC110 (uvicorn tells nobody)
            await asyncio.sleep(0.05)


def make_server(door: Any, settings: GatewaySettings, on_draining: Callable[[], None]) -> DrainingServer:
    """Make the server of the gateway."""
    limits = GuardLimits(
        head_bytes=settings.header_bytes,
        head_count=settings.header_count,
        head_seconds=settings.header_seconds,
        unread_seconds=settings.unread_seconds,
    )
    config = uvicorn.Config(
        door,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        loop="uvloop",
        http=guarded(limits),
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,
        # Leave-taking is part of the time that the process has to stop.
        timeout_graceful_shutdown=max(1, int(settings.drain_seconds - settings.farewell_seconds)),
    )
    return DrainingServer(config, limits, settings.farewell_seconds, on_draining)
