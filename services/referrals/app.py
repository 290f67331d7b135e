"""The HTTP door of referrals, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.referrals.context import Context, make_context
from services.referrals.routes import router
from services.referrals.settings import ReferralsSettings
from shared import web
from shared.events import ReferralsAudit
from shared.identity import TokenVerifier, keys_from
from shared.queue_desk import queue_router


def create_app(settings: ReferralsSettings) -> FastAPI:
    """Make the app that the settings describe."""

    @asynccontextmanager
    async def open_context() -> AsyncIterator[Context]:
        context = make_context(settings)
        try:
            yield context
        finally:
            await context.close()

    return web.create_app(
        settings,
        title="Partner Hub referrals",
        # Before the referrals, so that `queues` is no referral's id.
        routers=[queue_router("/api/referrals/queues", "referrals", ReferralsAudit, settings.amqp_url), router],
        open_context=open_context,
        verifier=TokenVerifier(
            keys_from(settings.jwks_url), issuer=settings.token_issuer, audience=settings.token_audience
        ),
        facts=lambda: {"partner_center_enabled": settings.enabled},
    )
