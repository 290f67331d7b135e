"""The HTTP door of invitations, wired."""

from __future__ import annotations

from fastapi import FastAPI

from services.invitations.context import open_context
from services.invitations.routes import ROUTERS
from services.invitations.settings import InvitationsSettings
from shared.events import InvitationsAudit
from shared.identity import TokenVerifier, keys_from
from shared.queue_desk import queue_router
from shared.web import create_app as create_web_app


def create_app(settings: InvitationsSettings, *, verifier: TokenVerifier | None = None) -> FastAPI:
    """Make the door that the settings describe."""
    queues = queue_router("/api/Sponsorship/admin/queues", "invitations", InvitationsAudit, settings.amqp_url)
    return create_web_app(
        settings,
        title="Partner Hub: invitations",
        routers=[*ROUTERS, queues],
        open_context=lambda: open_context(settings),
        verifier=verifier
        or TokenVerifier(keys_from(settings.jwks_url), issuer=settings.token_issuer, audience=settings.token_audience),
    )
