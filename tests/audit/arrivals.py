"""Audit events as they travel, and waiting for their records."""

from __future__ import annotations

from typing import Any

from services.audit.consumers import HANDLERS
from services.audit.context import AuditContext
from shared import topology
from shared.errors import Unavailable
from shared.events import AuditRecorded, AuthAudit
from shared.events.audit import Actor
from shared.events.envelope import encode, with_sequence
from shared.worker import Work
from tests.support.eventually import eventually

WORK = [Work(queue, HANDLERS) for queue in topology.AUDIT_EVENTS]
QUEUE, OTHER_QUEUE, THIRD_QUEUE = (queue.name for queue in topology.AUDIT_EVENTS[:3])
ADMIN = Actor(kind="admin", id=166, roles=["Admin"])


def an_audit_event(kind: type[AuditRecorded] = AuthAudit, number: int = 1, **changes: Any) -> bytes:
    """An audit event as it travels."""
    facts: dict[str, Any] = {
        "action": f"{kind.publisher()}.something.done",
        "actor": ADMIN,
        "request_id": "request-1",
        "personal": {"ip": "192.0.2.7"},
    }
    _, body = encode(kind(**(facts | changes)))
    return with_sequence(body, number)


async def count(context: AuditContext) -> int:
    """Count the records, but for what a worker says of its own regular verifications."""
    async with context.database.connection() as conn:
        found: int = await conn.fetchval("SELECT count(*) FROM records WHERE action <> 'audit.verification.completed'")
        return found


async def in_the_log(context: AuditContext, expected: int, within: float = 60) -> None:
    async def reached() -> bool:
        try:
            return await count(context) >= expected
        except Unavailable:  # the test cut this very connection
            return False

    await eventually(reached, within=within, what=f"{expected} records")
