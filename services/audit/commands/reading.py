"""Reading the log is itself an act that the log keeps."""

from __future__ import annotations

from typing import Any

from shared import audit
from shared.db import Connection
from shared.events import AuditAudit
from shared.events.audit import Target
from shared.identity import Principal


async def record_reading(
    conn: Connection, reader: Principal, *, action: str, asked: dict[str, Any], shown: int, event_id: str | None = None
) -> None:
    """Record who asked what of the log and how many records they saw; once per page, not per record."""
    await audit.record(
        conn,
        AuditAudit,
        action=action,
        actor=reader,
        target=Target(kind="audit_event", id=event_id) if event_id else None,
        details={"filters": asked, "shown": shown},
    )


async def record_export(conn: Connection, reader: Principal, *, asked: dict[str, Any], last_seq: int) -> None:
    """Record who takes a copy of the log away, before its first byte leaves."""
    await audit.record(
        conn,
        AuditAudit,
        action="audit.log.exported",
        actor=reader,
        severity="notice",
        details={"filters": asked, "last_seq": last_seq},
    )


async def record_refusal(conn: Connection, caller: Principal) -> None:
    """Record that somebody without the role wanted to read the log."""
    await audit.record(
        conn,
        AuditAudit,
        action="audit.access.refused",
        actor=caller,
        outcome="denied",
        reason="neither Admin nor Auditor",
        severity="warning",
    )
