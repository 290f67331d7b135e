"""Accounts: made, changed and granted by admins."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from services.auth.commands.evidence import note, tell_changed, tell_registered
from services.auth.commands.tokens import end_all_sessions
from services.auth.domain.accounts import ADMIN, Account, Grants, Seed, known_roles
from services.auth.domain.errors import (
    ConfirmationBySelf,
    GrantsNotYours,
    LastAdmin,
    NotAnAdmin,
    NothingToConfirm,
    OwnSecondFactor,
    SecondFactorNotEnrolled,
    SessionEnded,
)
from services.auth.store import accounts as store
from services.auth.store import credentials
from shared import outbox
from shared.db import Connection
from shared.errors import Failure, FieldError, Invalid
from shared.events import PasswordResetRequested
from shared.events.audit import Actor
from shared.identity import Principal


async def create_user(
    conn: Connection, caller: Principal, *, email: str, full_name: str, roles: list[str], now: datetime
) -> Account:
    """Make an account; its owner gets a token to set the first password, which nobody else ever knows."""
    _still_admin(caller, [await store.lock_account(conn, caller.id)], now)
    account = await store.insert_account(conn, email=email, full_name=full_name, roles=known_roles(roles), now=now)
    await tell_registered(conn, account)
    await outbox.add(conn, PasswordResetRequested(email=email, requested_at=now, purpose="first"))
    await note(
        conn,
        "user.created",
        actor=caller,
        about=account,
        severity="notice",
        email=email,
        details={"roles": sorted(account.roles)},
    )
    return account


async def change_user(
    conn: Connection,
    caller: Principal,
    account_id: int,
    *,
    full_name: str | None,
    roles: list[str] | None,
    is_active: bool | None,
    now: datetime,
) -> Account:
    """Change name, roles or state, None leaving each as it is; who loses a role or is disabled loses their sessions."""
    before, admins = await store.lock_account_and_admins(conn, account_id)
    wanted = before.roles if roles is None else known_roles(roles)
    enabled = before.is_enabled if is_active is None else is_active
    if not (enabled and ADMIN in wanted) and _is_last(before, admins, now):
        raise LastAdmin
    _still_admin(caller, admins, now)
    account = await store.save_profile(
        conn, account_id, full_name=full_name or before.full_name, roles=wanted, is_active=enabled, now=now
    )
    # On waking, too: an account that was put to sleep by hand in the database may have left sessions behind.
    if enabled != before.is_enabled or before.roles - wanted:
        await end_all_sessions(conn, account_id, reason="roles changed" if enabled else "disabled", now=now)
    await tell_changed(conn, account)
    await note(
        conn,
        "user.disabled" if before.is_enabled and not enabled else "user.changed",
        actor=caller,
        about=account,
        severity="notice",
        details={
            "roles": {"from": sorted(before.roles), "to": sorted(wanted)},
            "active": {"from": before.is_enabled, "to": enabled},
        },
    )
    return account


async def change_grants(
    conn: Connection, caller: Principal, account_id: int, grants: Grants, *, now: datetime
) -> Account | Failure:
    """Say for which sponsors an admin may act; a refusal is returned, for its evidence must be committed."""
    account, admins = await store.lock_account_and_admins(conn, account_id)
    if _still_admin(caller, admins, now).on_behalf_of != "all":
        await note(
            conn,
            "grants.changed",
            actor=caller,
            about=account,
            outcome="denied",
            reason="may not act for all sponsors",
            severity="warning",
        )
        return GrantsNotYours()
    if ADMIN not in account.roles_at(now):
        raise NotAnAdmin
    if grants != "all" and (unknown := await store.list_unknown_sponsors(conn, sorted(grants))):
        words = f"No sponsor has the id {', '.join(map(str, unknown))}."
        raise Invalid(fields=[FieldError("sponsor_ids", words, "SPONSOR_UNKNOWN")])
    changed = await store.save_grants(conn, account.id, grants, now)
    await tell_changed(conn, changed)
    await note(
        conn,
        "grants.changed",
        actor=caller,
        about=account,
        severity="notice",
        details={"from": _listed(account.on_behalf_of), "to": _listed(grants)},
    )
    return changed


async def confirm_admin(conn: Connection, caller: Principal, account_id: int, *, now: datetime) -> Account:
    """Let a temporary admin's role last; a second admin whose own role lasts says so."""
    account, admins = await store.lock_account_and_admins(conn, account_id)
    confirming = _still_admin(caller, admins, now)
    if ADMIN not in account.roles_at(now):
        raise NotAnAdmin
    if account.admin_until is None:
        raise NothingToConfirm
    if caller.id == account.id or not confirming.is_lasting_admin():
        raise ConfirmationBySelf
    confirmed = await store.save_confirmed_admin(conn, account_id, now)
    await tell_changed(conn, confirmed)
    await note(conn, "break_glass.confirmed", actor=caller, about=account, severity="warning")
    return confirmed


async def end_user_sessions(conn: Connection, caller: Principal, account_id: int, *, now: datetime) -> Account:
    """End every session of somebody else."""
    account, admins = await store.lock_account_and_admins(conn, account_id)
    _still_admin(caller, admins, now)
    ended = await end_all_sessions(conn, account.id, reason="ended by an admin", now=now)
    await note(conn, "sessions.ended", actor=caller, about=account, severity="notice", details={"sessions": ended})
    return account


async def remove_lost_factor(conn: Connection, caller: Principal, account_id: int, *, now: datetime) -> Account:
    """Take the second factor off an account whose owner lost it; one's own goes with password and code only."""
    account, admins = await store.lock_account_and_admins(conn, account_id)
    _still_admin(caller, admins, now)
    if account_id == caller.id:
        raise OwnSecondFactor
    if not account.has_second_factor:
        raise SecondFactorNotEnrolled
    await credentials.delete_second_factor(conn, account_id, now)
    await end_all_sessions(conn, account_id, reason="second factor removed", now=now)
    await note(conn, "second_factor.removed", actor=caller, about=account, reason="by an admin", severity="warning")
    return await store.get_account(conn, account_id)


async def seed_account(conn: Connection, seed: Seed, *, actor: Actor, now: datetime) -> None:
    """Add or overwrite an account of the demo."""
    account = await store.save_seed(conn, seed, now)
    await end_all_sessions(conn, account.id, reason="seeded", now=now)
    await tell_registered(conn, account)
    await note(conn, "user.created", actor=actor, about=account, details={"roles": sorted(account.roles), "seed": True})


async def republish_users(conn: Connection, *, after: int, limit: int) -> list[int]:
    """Tell of a page of accounts again; gives the ids told of, none at the end."""
    page = await store.list_accounts(conn, role=None, is_active=None, search=None, after=after, limit=limit)
    for account in page:
        # Locked, so that the state told and its place among later changes fit together.
        await tell_registered(conn, await store.lock_account(conn, account.id))
    return [account.id for account in page]


def _still_admin(caller: Principal, admins: Iterable[Account], now: datetime) -> Account:
    """Give the locked account of who asks; another admin may have disabled or demoted them since they were let in."""
    for admin in admins:
        if admin.id == caller.id and admin.is_admin_at(now):
            return admin
    raise SessionEnded


def _is_last(account: Account, admins: Iterable[Account], now: datetime) -> bool:
    """Say whether without this account no admin could sign in, now or once the temporary ones are over."""
    others = [admin for admin in admins if admin.id != account.id]
    if account.is_lasting_admin():
        return not any(other.is_lasting_admin() for other in others)
    return account.is_admin_at(now) and not any(other.is_admin_at(now) for other in others)


def _listed(grants: Grants) -> list[int] | str:
    return "all" if grants == "all" else sorted(grants)
