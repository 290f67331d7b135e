"""Writing audit events: in the transaction of the change, or not at all."""

from __future__ import annotations

from typing import Any

from shared import outbox, telemetry
from shared.db import Connection
from shared.events.audit import Actor, AuditRecorded, Outcome, Severity, Target
from shared.identity import Principal


async def record(
    conn: Connection,
    kind: type[AuditRecorded],
    *,
    action: str,
    actor: Principal | Actor,
    outcome: Outcome = "success",
    target: Target | None = None,
    on_behalf_of: int | None = None,
    reason: str | None = None,
    severity: Severity = "info",
    personal: dict[str, str] | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Record who did what; where the request came from is taken from the request at hand."""
    trace = telemetry.current()
    origin = {"ip": trace.ip, "user_agent": trace.user_agent}
    event = kind(
        action=action,
        actor=actor_of(actor) if isinstance(actor, Principal) else actor,
        outcome=outcome,
        target=target,
        on_behalf_of=on_behalf_of,
        reason=reason,
        severity=severity,
        request_id=trace.request_id,
        request_path=trace.path,
        personal={name: value for name, value in origin.items() if value} | (personal or {}),
        details=details or {},
    )
    await outbox.add(conn, event)


def actor_of(principal: Principal) -> Actor:
    """Describe a signed-in person as the actor of an audit event."""
    kind = "admin" if principal.has_role("Admin") else "user"
    return Actor(kind=kind, id=principal.id, roles=sorted(principal.roles))
