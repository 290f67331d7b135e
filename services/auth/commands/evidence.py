"""What every command leaves behind: audit events, and the state that other services copy."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.auth.domain.accounts import Account
from shared import audit, outbox
from shared.db import Connection
from shared.events import AuthAudit, SessionsRevoked, UserChanged, UserRegistered
from shared.events.audit import Actor, Outcome, Severity, Target
from shared.identity import Principal

ANONYMOUS: Final = Actor(kind="anonymous")
SERVICE: Final = Actor(kind="service")
# A program that signs in for each run leaves an account with tens of thousands of sessions, too many for one event.
_SESSIONS_PER_EVENT: Final = 1_000


def acting(account: Account) -> Actor:
    """Describe the owner of an account as an actor, where there is no token yet."""
    kind = "admin" if "Admin" in account.roles else "user"
    return Actor(kind=kind, id=account.id, roles=sorted(account.roles))


async def note(
    conn: Connection,
    action: str,
    *,
    actor: Principal | Actor = ANONYMOUS,
    about: Account | int | None = None,
    outcome: Outcome = "success",
    reason: str | None = None,
    severity: Severity = "info",
    email: str | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Record an act in the audit log."""
    account_id = about.id if isinstance(about, Account) else about
    await audit.record(
        conn,
        AuthAudit,
        action=f"auth.{action}",
        actor=actor,
        target=Target(kind="user", id=str(account_id)) if account_id is not None else None,
        outcome=outcome,
        reason=reason,
        severity=severity,
        personal={"email": email} if email else None,
        details=details,
    )


async def tell_registered(conn: Connection, account: Account) -> None:
    """Tell other services of an account that is new to them."""
    await outbox.add(conn, UserRegistered(**_state(account)))


async def tell_changed(conn: Connection, account: Account) -> None:
    """Tell other services that an account changed."""
    await outbox.add(conn, UserChanged(**_state(account)))


async def tell_revoked(conn: Connection, account_id: int, session_ids: list[UUID], reason: str, now: datetime) -> None:
    """Tell the gateway which sessions are over, if any."""
    for start in range(0, len(session_ids), _SESSIONS_PER_EVENT):
        some = session_ids[start : start + _SESSIONS_PER_EVENT]
        await outbox.add(conn, SessionsRevoked(user_id=account_id, session_ids=some, revoked_at=now, reason=reason))


def _state(account: Account) -> dict[str, Any]:
    return {
        "user_id": account.id,
        "version": account.version,
        "email": account.email,
        "full_name": account.full_name,
        "roles": sorted(account.roles),
        "is_active": account.is_active,
        "status": account.status,
        "on_behalf_of": account.on_behalf_of if account.on_behalf_of == "all" else sorted(account.on_behalf_of),
    }
