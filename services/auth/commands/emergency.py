"""Break-glass: an admin for a day, when no admin can get in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.auth.commands.evidence import SERVICE, note, tell_changed, tell_registered
from services.auth.commands.passwords import issue_reset_token
from services.auth.commands.tokens import end_all_sessions
from services.auth.domain.accounts import ADMIN, normal_email
from services.auth.domain.errors import BreakGlassRefused
from services.auth.domain.rules import BREAK_GLASS_LASTS, Rules
from services.auth.store import accounts, credentials
from shared.db import Connection
from shared.errors import Failure
from shared.events.audit import Actor
from shared.sealing import Sealer

_OPERATOR = Actor(kind="operator")
_FULL_NAME = "Break-glass admin"


@dataclass(frozen=True, slots=True)
class Emergency:
    """Who breaks the glass, for which account, and why."""

    email: str
    reason: str
    os_user: str
    host: str
    force: bool = False
    drop_second_factor: bool = False


async def break_glass(
    conn: Connection, sealer: Sealer, rules: Rules, case: Emergency, *, now: datetime
) -> str | Failure:
    """Make or wake an admin whose role ends by itself; gives the token with which they set their password, once."""
    admins = await accounts.list_admins(conn)
    evidence = {"os_user": case.os_user, "host": case.host, "forced": case.force}
    if any(admin.is_admin_at(now) for admin in admins) and not case.force:
        await note(
            conn,
            "break_glass.refused",
            actor=_OPERATOR,
            outcome="denied",
            reason=case.reason,
            severity="critical",
            details=evidence,
        )
        return BreakGlassRefused()
    email = normal_email(case.email)
    known = await accounts.find_account_by_email(conn, email)
    account = known or await accounts.insert_account(
        conn, email=email, full_name=_FULL_NAME, roles=frozenset(), now=now
    )
    account = await accounts.lock_account(conn, account.id)
    woken = await accounts.save_temporary_admin(
        conn,
        account.id,
        until=now + BREAK_GLASS_LASTS,
        disable_after=known is None or not account.is_enabled,
        acts_for_all=not any(admin.is_enabled and admin.grants_at(now) == "all" for admin in admins),
        now=now,
    )
    # The power is for who holds the token that is printed now, not for a device that is signed in somewhere.
    await end_all_sessions(conn, account.id, reason="break-glass", now=now)
    if case.drop_second_factor:
        await credentials.delete_second_factor(conn, account.id, now)
    token = await issue_reset_token(conn, sealer, rules, woken, "reset", requested_at=now, now=now)
    await (tell_changed if known else tell_registered)(conn, woken)
    await note(
        conn,
        "break_glass.used",
        actor=_OPERATOR,
        about=woken,
        reason=case.reason,
        severity="critical",
        email=email,
        details=evidence | {"created": known is None, "second_factor_dropped": case.drop_second_factor},
    )
    return token


async def end_temporary_admins(conn: Connection, *, now: datetime) -> int:
    """Take the admin role from those whose day is over; gives how many."""
    expired = await accounts.lock_expired_admins(conn, now)
    for account in expired:
        ended = await accounts.save_profile(
            conn,
            account.id,
            full_name=account.full_name,
            roles=account.roles - {ADMIN},
            is_active=account.is_enabled and not account.disable_after_admin,
            now=now,
        )
        await end_all_sessions(conn, account.id, reason="break-glass ended", now=now)
        await tell_changed(conn, ended)
        await note(conn, "break_glass.ended", actor=SERVICE, about=ended, severity="warning")
    return len(expired)
