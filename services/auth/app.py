"""The HTTP door of auth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import Depends, FastAPI

from services.auth.commands.keys import key_ring
from services.auth.context import Context, make_context
from services.auth.routes import ROUTERS
from services.auth.routes.door import only_admins
from services.auth.settings import AuthSettings
from shared.events import AuthAudit
from shared.identity import KeySource, TokenVerifier
from shared.queue_desk import queue_router
from shared.web import create_app as create_service_app

_RENEW_KEYS_SECONDS: Final = 1.0


def create_app(settings: AuthSettings, context: Context | None = None) -> FastAPI:
    """Wire the HTTP door; tests bring a context of their own."""
    held = context or make_context(settings)

    @asynccontextmanager
    async def open_context() -> AsyncIterator[Context]:
        try:
            yield held
        finally:
            await held.close()

    # Auth checks tokens as everybody does, with the keys it would publish; it need not ask itself over HTTP, so it can
    # look every second.
    verifier = TokenVerifier(
        own_keys(held), issuer=held.rules.issuer, audience=held.rules.audience, renew_seconds=_RENEW_KEYS_SECONDS
    )
    queues = queue_router("/api/v1/auth/queues", "auth", AuthAudit, settings.amqp_url, admin=Depends(only_admins))
    return create_service_app(
        settings, title="Partner Hub: auth", routers=[*ROUTERS, queues], open_context=open_context, verifier=verifier
    )


def own_keys(context: Context) -> KeySource:
    """Give the public keys from the service's own table."""

    async def keys() -> Mapping[str, Any]:
        async with context.database.transaction() as conn:
            return (await key_ring(conn, context.sealer, context.clock())).jwks()

    return keys
