"""uvicorn around the door, with guarded connections and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
from typing import Final

import uvicorn

from services.gateway.app.door import Door
from services.gateway.app.header_guard import GuardedProtocol, GuardLimits, guarded
from services.gateway.settings import GatewaySettings
from shared.draining import DrainingServer

# uvicorn ticks ten times a second.
_TICKS_A_SECOND: Final = 10


class GatewayServer(DrainingServer):
    """Closes connections on which nothing was asked for long; one look for all, in place of a timer for each."""

    keep_alive_seconds = 30.0

    async def on_tick(self, counter: int) -> bool:
        """Look once a second."""
        if counter % _TICKS_A_SECOND == 0:
            since = asyncio.get_running_loop().time() - self.keep_alive_seconds
            for connection in list(self.server_state.connections):
                if isinstance(connection, GuardedProtocol):
                    connection.close_if_idle(since)
        return await super().on_tick(counter)


def make_server(door: Door, settings: GatewaySettings) -> GatewayServer:
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
        http=guarded(limits, door.note_unread),
        ws="none",
        # Leave-taking is part of the time that the process has to stop.
        timeout_graceful_shutdown=max(1, int(settings.drain_seconds - settings.farewell_seconds)),
    )

    def take_leave() -> None:
        limits.draining = True
        for connection in server.server_state.connections:
            if isinstance(connection, GuardedProtocol):
                connection.say_farewell()
        door.say_draining()

    server = GatewayServer(config, settings.farewell_seconds, on_farewell=take_leave, on_end=door.cut_streams)
    server.keep_alive_seconds = settings.keep_alive_seconds
    return server
