"""The HTTP interface of audit: for the roles Admin and Auditor."""

from __future__ import annotations

from services.audit.routes import events, proof

ROUTERS = (events.router, proof.router)
