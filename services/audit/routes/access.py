"""Who may read the log, and what a request works with."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.audit.context import AuditContext
from shared.identity import Principal
from shared.web import require_role

Reader = Annotated[Principal, require_role("Admin", "Auditor")]


def _context(request: Request) -> AuditContext:
    context: AuditContext = request.state.context
    return context


CurrentContext = Annotated[AuditContext, Depends(_context)]
