"""Accounts: made, changed and granted by admins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.auth.commands.evidence import note, tell_changed, tell_registered
from services.auth.commands.tokens import end_all_sessions
from services.auth.domain.accounts import ADMIN, Account, Grants, known_roles, normal_email
from services.auth.domain.errors import (
    ConfirmationBySelf,
    EmailTaken,
    GrantsNotYours,
    LastAdmin,
    NotAnAdmin,
    NothingToConfirm,
)
from services.auth.store import accounts as store
from services.auth.store import emergency
from shared import outbox
from shared.db import Connection
from shared.errors import Failure, FieldError, Invalid
from shared.events import PasswordResetRequested
from shared.events.audit import Actor
from shared.identity import Principal


@dataclass(frozen=True, slots=True)
class NewUser:
    """A person who is to have an account."""

    email: str
    full_name: str
    roles: list[str]


@dataclass(frozen=True, slots=True)
class UserChange:
    """What is to be different; None leaves a thing as it is."""

    full_name: str | None = None
    roles: list[str] | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True)
class Seed:
    """An account of the demo, with its password already hashed."""

    id: int
    email: str
    full_name: str
    roles: list[str]
    is_active: bool
    password_hash: str
    on_behalf_of: Grants


async def create_user(conn: Connection, caller: Principal, new: NewUser, *, now: datetime) -> Account:
    """Make an account; its owner gets a token to set the first password, which nobody else ever knows."""
    email, roles = normal_email(new.email), known_roles(new.roles)
    if await store.find_account_by_email(conn, email):
        raise EmailTaken
    account = await store.insert_account(conn, email=email, full_name=new.full_name, roles=roles, now=now)
    await tell_registered(conn, account)
    await outbox.add(conn, PasswordResetRequested(email=email, requested_at=now, purpose="first"))
    await note(
        conn,
        "user.created",
        actor=caller,
        about=account,
        severity="notice",
        email=email,
        details={"roles": sorted(roles)},
    )
    return account


async def change_user(
    conn: Connection, caller: Principal, account_id: int, change: UserChange, *, now: datetime
) -> Account:
    """Change name, roles or state; who loses a role or is disabled loses their sessions with it."""
    before, admins = await store.lock_account_and_admins(conn, account_id)
    roles = before.roles if change.roles is None else known_roles(change.roles)
    is_active = before.is_enabled if change.is_active is None else change.is_active
    stays_admin = is_active and ADMIN in roles
    if before.is_lasting_admin() and not stays_admin and not _others(admins, before):
        raise LastAdmin
    account = await store.save_profile(
        conn, before, full_name=change.full_name or before.full_name, roles=roles, is_active=is_active, now=now
    )
    if not is_active or before.roles - roles:
        await end_all_sessions(conn, account.id, reason="disabled" if not is_active else "roles changed", now=now)
    await tell_changed(conn, account)
    await note(
        conn,
        "user.disabled" if before.is_enabled and not is_active else "user.changed",
        actor=caller,
        about=account,
        severity="notice",
        details={
            "roles": {"from": sorted(before.roles), "to": sorted(roles)},
            "active": {"from": before.is_enabled, "to": is_active},
        },
    )
    return account


async def change_grants(
    conn: Connection, caller: Principal, account_id: int, grants: Grants, *, now: datetime
) -> Account | Failure:
    """Say for which sponsors an admin may act; a refusal is returned, for its evidence must be committed."""
    if (await store.get_account(conn, caller.id)).grants_at(now) != "all":
        await note(
            conn,
            "grants.changed",
            actor=caller,
            about=account_id,
            outcome="denied",
            reason="may not act for all sponsors",
            severity="warning",
        )
        return GrantsNotYours()
    account = await store.lock_account(conn, account_id)
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
    account = await store.lock_account(conn, account_id)
    if ADMIN not in account.roles_at(now):
        raise NotAnAdmin
    if account.admin_until is None:
        raise NothingToConfirm
    if caller.id == account.id or not (await store.get_account(conn, caller.id)).is_lasting_admin():
        raise ConfirmationBySelf
    await emergency.save_confirmed(conn, account.id, now)
    confirmed = await store.get_account(conn, account.id)
    await tell_changed(conn, confirmed)
    await note(conn, "break_glass.confirmed", actor=caller, about=account, severity="warning")
    return confirmed


async def end_user_sessions(conn: Connection, caller: Principal, account_id: int, *, now: datetime) -> Account:
    """End every session of somebody else."""
    account = await store.lock_account(conn, account_id)
    ended = await end_all_sessions(conn, account.id, reason="ended by an admin", now=now)
    await note(conn, "sessions.ended", actor=caller, about=account, severity="notice", details={"sessions": ended})
    return account


async def seed_account(conn: Connection, seed: Seed, *, actor: Actor, now: datetime) -> Account:
    """Add or overwrite an account of the demo."""
    account = await store.save_seed(
        conn,
        account_id=seed.id,
        email=normal_email(seed.email),
        full_name=seed.full_name,
        roles=known_roles(seed.roles),
        is_active=seed.is_active,
        password_hash=seed.password_hash,
        on_behalf_of=seed.on_behalf_of,
        now=now,
    )
    await end_all_sessions(conn, account.id, reason="seeded", now=now)
    await tell_registered(conn, account)
    await note(conn, "user.created", actor=actor, about=account, details={"roles": sorted(account.roles), "seed": True})
    return account


async def republish_users(conn: Connection, *, after: int, limit: int) -> list[int]:
    """Tell of a page of accounts again; gives the ids told of, none at the end."""
    page = await store.list_accounts(conn, role=None, is_active=None, search=None, after=after, limit=limit)
    for account in page:
        # Locked, so that the state told and its place among later changes fit together.
        await tell_registered(conn, await store.lock_account(conn, account.id))
    return [account.id for account in page]


def _others(admins: Iterable[Account], account: Account) -> list[Account]:
    return [admin for admin in admins if admin.id != account.id and admin.is_lasting_admin()]


def _listed(grants: Grants) -> list[int] | str:
    return "all" if grants == "all" else sorted(grants)
