"""Passwords: asking for a reset, the token and its letter, resetting, changing."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from services.auth.commands.evidence import note
from services.auth.commands.keys import issuer, key_ring
from services.auth.commands.tokens import end_all_sessions
from services.auth.domain.accounts import Account
from services.auth.domain.errors import CurrentPasswordWrong, ResetTokenInvalid
from services.auth.domain.hashing import Verdict
from services.auth.domain.letters import ResetLetter
from services.auth.domain.rules import Rules
from services.auth.domain.tokens import ResetClaims, new_token_id, read_reset_token, token_hash
from services.auth.store import accounts, credentials, throttles
from shared import outbox
from shared.db import Connection
from shared.errors import Failure, TooMany
from shared.events import PasswordChanged, PasswordResetRequested
from shared.identity import Principal
from shared.sealing import Sealer

_NOBODY = ResetClaims(account_id=0, token_hash="", epoch=0)


async def request_password_reset(conn: Connection, email: str, *, now: datetime) -> None:
    """Take a request; whether the address belongs to anybody is the worker's business, so nothing here can tell."""
    await outbox.add(conn, PasswordResetRequested(email=email, requested_at=now))
    await note(conn, "password_reset.requested", email=email)


async def write_reset_letter(
    conn: Connection, sealer: Sealer, rules: Rules, request: PasswordResetRequested, *, now: datetime
) -> tuple[int, ResetLetter] | None:
    """Make the token that a request asks for, if there is an account and no newer request was served."""
    account = await accounts.find_account_by_email(conn, request.email)
    if account is None:
        await note(conn, "password_reset.delivered", outcome="failure", reason="unknown address", email=request.email)
        return None
    account = await accounts.lock_account(conn, account.id)
    served = account.password_reset_requested_at
    is_retry = served == request.requested_at
    if served is not None and served > request.requested_at:
        await _note_undelivered(conn, account, "a newer request was served")
        return None
    if is_retry and account.password_reset_delivered_at is not None:
        return None
    if not is_retry and not await _may_mail(conn, rules, account, now):
        return None
    token = await issue_reset_token(
        conn, sealer, rules, account, request.purpose, requested_at=request.requested_at, now=now
    )
    lifetime = rules.lifetimes.reset_for(request.purpose)
    return account.id, ResetLetter(account.email, account.full_name, token, request.purpose, lifetime)


async def issue_reset_token(
    conn: Connection,
    sealer: Sealer,
    rules: Rules,
    account: Account,
    purpose: Literal["reset", "first"],
    *,
    requested_at: datetime,
    now: datetime,
) -> str:
    """Make the one live reset token of a locked account; an older one dies by it."""
    until = now + rules.lifetimes.reset_for(purpose)
    token_id = new_token_id()
    await credentials.save_reset_token(
        conn, account.id, token_hash(token_id), requested_at=requested_at, expires_at=until
    )
    signer = await issuer(conn, sealer, rules, now)
    return signer.reset_token(account.id, token_id, account.credential_epoch, now=now, until=until)


async def note_delivery(conn: Connection, account_id: int, requested_at: datetime, *, now: datetime) -> None:
    """Keep that the letter was handed over, so that a redelivered message sends no second one."""
    account = await accounts.lock_account(conn, account_id)
    await credentials.save_reset_delivered(conn, account.id, requested_at, now)
    await note(conn, "password_reset.delivered", about=account)


async def note_refusal(conn: Connection, account_id: int, reason: str) -> None:
    """Keep that no letter can reach the owner, and why."""
    await note(conn, "password_reset.delivered", about=account_id, outcome="failure", reason=reason, severity="notice")


async def examine_reset_token(
    conn: Connection, sealer: Sealer, rules: Rules, token: str, *, now: datetime
) -> tuple[ResetClaims, Account] | Failure:
    """Find whose password a token may set; every bad token takes the same steps and gets the same answer."""
    try:
        claims = read_reset_token(token, await key_ring(conn, sealer, now), rules.issuer)
    except ResetTokenInvalid:
        claims = _NOBODY
    account = await accounts.find_and_lock_account(conn, claims.account_id)
    if account is None or not _is_live(account, claims, now):
        await note(
            conn,
            "password_reset.failed",
            about=account,
            outcome="failure",
            reason="not a token of ours" if account is None else "used, superseded or expired",
            severity="notice",
        )
        return ResetTokenInvalid()
    return claims, account


async def reset_password(conn: Connection, claims: ResetClaims, password_hash: str, *, now: datetime) -> Failure | None:
    """Set the new password, spend the token, end every session, clear the count of failures, have the owner told."""
    account = await accounts.lock_account(conn, claims.account_id)
    if not _is_live(account, claims, now):
        await note(
            conn, "password_reset.failed", about=account, outcome="failure", reason="used meanwhile", severity="notice"
        )
        return ResetTokenInvalid()
    how: Literal["reset", "first"] = "reset" if account.password_hash else "first"
    await credentials.save_password(conn, account.id, password_hash, now)
    await throttles.delete_throttle(conn, "sign-in", account.email)
    ended = await end_all_sessions(conn, account.id, reason="password reset", now=now)
    await outbox.add(conn, PasswordChanged(user_id=account.id, how=how))
    await note(conn, "password_reset.completed", about=account, severity="notice", details={"sessions_ended": ended})
    return None


async def cancel_reset(conn: Connection, sealer: Sealer, rules: Rules, token: str, *, now: datetime) -> Failure | None:
    """Make a reset token worthless at the word of the owner, who did not ask for it; nothing else changes."""
    found = await examine_reset_token(conn, sealer, rules, token, now=now)
    if isinstance(found, Failure):
        return found
    _, account = found
    await credentials.delete_reset_token(conn, account.id)
    await note(conn, "password_reset.cancelled", about=account, reason="not asked for by the owner", severity="warning")
    return None


async def judge_current_password(
    conn: Connection, rules: Rules, caller: Principal, seen: Account, verdict: Verdict, *, now: datetime
) -> Failure | None:
    """Say whether a signed-in person proved to be the owner; wrong tries count as failed sign-ins do."""
    account = await accounts.lock_account(conn, caller.id)
    throttle = await throttles.lock_throttle(conn, "sign-in", account.email)
    if throttle.is_paused(now):
        return TooMany(retry_after=throttle.seconds_left(now))
    if verdict.matches and account.credential_epoch == seen.credential_epoch:
        return None
    await throttles.save_throttle(conn, "sign-in", account.email, throttle.failed(now, rules.sign_ins))
    await note(
        conn,
        "password.check",
        actor=caller,
        about=account,
        outcome="failure",
        reason="wrong current password",
        severity="notice",
    )
    return CurrentPasswordWrong()


async def change_password(
    conn: Connection, caller: Principal, password_hash: str, *, epoch: int, now: datetime
) -> None:
    """Set the password of somebody who proved to know the one of this epoch; their other sessions end."""
    account = await accounts.lock_account(conn, caller.id)
    if account.credential_epoch != epoch:
        raise CurrentPasswordWrong
    await credentials.save_password(conn, account.id, password_hash, now)
    ended = await end_all_sessions(conn, account.id, reason="password changed", now=now, but=UUID(caller.session_id))
    await outbox.add(conn, PasswordChanged(user_id=account.id, how="change"))
    await note(
        conn, "password.changed", actor=caller, about=account, severity="notice", details={"sessions_ended": ended}
    )


def _is_live(account: Account, claims: ResetClaims, now: datetime) -> bool:
    return (
        account.password_reset_token == claims.token_hash
        and account.credential_epoch == claims.epoch
        and account.password_reset_expires_at is not None
        and now < account.password_reset_expires_at
    )


async def _note_undelivered(conn: Connection, account: Account, reason: str) -> None:
    await note(conn, "password_reset.delivered", about=account, outcome="denied", reason=reason)


async def _may_mail(conn: Connection, rules: Rules, account: Account, now: datetime) -> bool:
    throttle = await throttles.lock_throttle(conn, "reset", account.email)
    if throttle.is_paused(now):
        await _note_undelivered(conn, account, "too many requests")
        return False
    await throttles.save_throttle(conn, "reset", account.email, throttle.failed(now, rules.reset_mails))
    return True
