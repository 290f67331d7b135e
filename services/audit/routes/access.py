"""Who may read the log, and what a request works with."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.audit import commands
from services.audit.context import AuditContext
from shared.errors import Forbidden
from shared.identity import Principal
from shared.web import Caller


def _context(request: Request) -> AuditContext:
    context: AuditContext = request.state.context
    return context


CurrentContext = Annotated[AuditContext, Depends(_context)]


async def _reader(caller: Caller, context: CurrentContext) -> Principal:
    """Let auditors and admins in; that anybody else tried is itself worth a record."""
    if caller.has_role("Admin", "Auditor"):
        return caller
    async with context.database.transaction() as conn:
        await commands.record_refusal(conn, caller)
    raise Forbidden("This needs the role Admin or Auditor.")


Reader = Annotated[Principal, Depends(_reader)]
