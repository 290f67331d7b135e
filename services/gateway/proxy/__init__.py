"""The way to the services: own connections, bounded in number, with back-pressure in both directions.

A hand-made client over httptools, because it costs a twentieth of what the HTTP clients for people cost
(measured; see docs/decisions) and because a proxy must send exactly the bytes that were checked.
"""

from __future__ import annotations

from services.gateway.proxy.connection import Timeouts
from services.gateway.proxy.exchange import Answer, Ask, ClientGone
from services.gateway.proxy.look import Recently, look_at
from services.gateway.proxy.pool import Pool, PoolLimits
from services.gateway.proxy.upstream import Upstream

__all__ = ["Answer", "Ask", "ClientGone", "Pool", "PoolLimits", "Recently", "Timeouts", "Upstream", "look_at"]
