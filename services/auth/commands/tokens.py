"""Sessions and the tokens that go with them: begin, refresh, end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.auth.commands.evidence import note, tell_revoked
from services.auth.commands.keys import issuer
from services.auth.domain.accounts import ADMIN, Account
from services.auth.domain.errors import RefreshTokenInvalid, SessionNotFound
from services.auth.domain.rules import Rules
from services.auth.domain.sessions import Session, new_refresh_token, new_secret, refresh_token_hash, successor
from services.auth.store import accounts
from services.auth.store import sessions as store
from shared import telemetry
from shared.db import Connection
from shared.errors import Failure
from shared.identifiers import uuid7
from shared.identity import Principal
from shared.sealing import CannotOpen, Sealer

_LONGEST_USER_AGENT = 256


@dataclass(frozen=True, slots=True)
class Issued:
    """What a client gets when it signs in or refreshes."""

    account: Account
    roles: frozenset[str]
    access_token: str
    expires_in: int
    refresh_token: str
    second_factor_missing: bool


async def begin_session(
    conn: Connection, sealer: Sealer, rules: Rules, account: Account, *, with_second_factor: bool, now: datetime
) -> Issued:
    """Begin a session of an account that was let in."""
    trace = telemetry.current()
    session_id, refresh_token = uuid7(), new_refresh_token()
    session = Session(
        id=session_id,
        account_id=account.id,
        created_at=now,
        used_at=now,
        expires_at=now + rules.sessions.lifetime,
        ended_at=None,
        ip=trace.ip,
        user_agent=trace.user_agent[:_LONGEST_USER_AGENT] if trace.user_agent else None,
        with_second_factor=with_second_factor,
        sealed_secret=sealer.seal(new_secret(), bound_to=f"sessions/{session_id}"),
    )
    await store.insert_session(conn, session)
    await store.insert_refresh_token(conn, refresh_token_hash(refresh_token), session_id, now)
    return await _issue(conn, sealer, rules, account, session, refresh_token, now)


async def refresh_session(
    conn: Connection, sealer: Sealer, rules: Rules, refresh_token: str, *, now: datetime
) -> Issued | Failure:
    """Take a refresh token and give the next one; one that was spent before the grace ends the whole session."""
    token_hash = refresh_token_hash(refresh_token)
    found = await store.find_session_of_token(conn, token_hash)
    if found is None:
        return RefreshTokenInvalid()
    account = await accounts.lock_account(conn, found.account_id)
    session = await store.lock_session(conn, found.id)
    if not (session.is_live(now, rules.sessions) and account.is_enabled):
        return RefreshTokenInvalid()
    spent_at = await store.spent_at(conn, token_hash)
    if spent_at is not None and now - spent_at > rules.sessions.grace:
        return await _end_stolen(conn, account, session, now)
    try:
        following = await _follow(conn, sealer, session, refresh_token, now, is_spent=spent_at is not None)
    except CannotOpen:
        # The key that sealed the session was dropped, as one that leaked is. Where not even the signing key opens,
        # it is not the session that is wrong.
        await issuer(conn, sealer, rules, now)
        return RefreshTokenInvalid()
    await store.save_session_used(conn, session.id, now)
    return await _issue(conn, sealer, rules, account, session, following, now)


async def end_own_session(conn: Connection, caller: Principal, session_id: UUID, *, now: datetime) -> None:
    """End one of the caller's sessions; raises SessionNotFound."""
    ended = await store.end_sessions(conn, caller.id, reason="logout", now=now, only=session_id)
    if not ended:
        raise SessionNotFound
    await tell_revoked(conn, caller.id, ended, "logout", now)
    await note(conn, "logout", actor=caller, about=caller.id, details={"sessions": 1})


async def end_every_own_session(conn: Connection, caller: Principal, *, now: datetime) -> None:
    """End all of the caller's sessions."""
    ended = await end_all_sessions(conn, caller.id, reason="logout", now=now)
    await note(conn, "logout", actor=caller, about=caller.id, details={"sessions": ended})


async def end_all_sessions(
    conn: Connection, account_id: int, *, reason: str, now: datetime, but: UUID | None = None
) -> int:
    """End the sessions of an account, all or all but one; gives how many."""
    ended = await store.end_sessions(conn, account_id, reason=reason, now=now, but=but)
    await tell_revoked(conn, account_id, ended, reason, now)
    return len(ended)


async def _end_stolen(conn: Connection, account: Account, session: Session, now: datetime) -> Failure:
    ended = await store.end_sessions(conn, account.id, reason="refresh token reused", now=now, only=session.id)
    await tell_revoked(conn, account.id, ended, "refresh token reused", now)
    await note(
        conn, "refresh.reused", about=account, outcome="denied", reason="refresh token reused", severity="warning"
    )
    return RefreshTokenInvalid()


async def _follow(
    conn: Connection, sealer: Sealer, session: Session, refresh_token: str, now: datetime, *, is_spent: bool
) -> str:
    """Give the newest token of the line: the next one, made now or by a parallel refresh within the grace."""
    secret = sealer.open(session.sealed_secret, bound_to=session.bound_to)
    following = successor(refresh_token, secret)
    if not is_spent:
        await store.save_spent(conn, refresh_token_hash(refresh_token), now)
        await store.insert_refresh_token(conn, refresh_token_hash(following), session.id, now)
        return following
    while await store.spent_at(conn, refresh_token_hash(following)) is not None:
        following = successor(following, secret)
    return following


async def _issue(
    conn: Connection,
    sealer: Sealer,
    rules: Rules,
    account: Account,
    session: Session,
    refresh_token: str,
    now: datetime,
) -> Issued:
    roles = account.roles_at(now)
    # Without the second factor that admins must have, the token lets its holder enrol one and nothing else.
    shown = session.with_second_factor and account.has_second_factor
    missing = rules.admins_need_second_factor and ADMIN in roles and not shown
    roles = frozenset() if missing else roles
    until = min(now + rules.lifetimes.access, session.expires_at)
    if ADMIN in roles and account.admin_until is not None:
        until = min(until, account.admin_until)
    signer = await issuer(conn, sealer, rules, now)
    access_token = signer.access_token(account, roles, session.id, now=now, until=until)
    return Issued(account, roles, access_token, int((until - now).total_seconds()), refresh_token, missing)
