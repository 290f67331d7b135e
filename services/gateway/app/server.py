"""uvicorn around the door, with guarded connections and a shutdown that loses no request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import uvicorn

from services.gateway.app.header_guard import GuardLimits, guarded
from services.gateway.settings import GatewaySettings
from shared.draining import DrainingServer


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

    def take_leave() -> None:
        limits.draining = True

    return DrainingServer(config, settings.farewell_seconds, on_farewell=take_leave, on_end=on_draining)
