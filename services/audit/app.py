"""The HTTP door of audit."""

from __future__ import annotations

from fastapi import FastAPI

from services.audit.context import open_context
from services.audit.routes import ROUTERS
from services.audit.settings import AuditSettings
from shared.events import AuditAudit
from shared.identity import TokenVerifier, keys_from
from shared.queue_desk import queue_router
from shared.web import create_app as create_service_app


def create_app(settings: AuditSettings, verifier: TokenVerifier | None = None) -> FastAPI:
    """Wire the HTTP door; tests bring a verifier of their own."""
    trusted = verifier or TokenVerifier(
        keys_from(settings.jwks_url), issuer=settings.token_issuer, audience=settings.token_audience
    )
    return create_service_app(
        settings,
        title="Partner Hub: audit",
        routers=[*ROUTERS, queue_router("/api/v1/audit/queues", "audit", AuditAudit, settings.amqp_url)],
        open_context=lambda: open_context(settings),
        verifier=trusted,
    )
