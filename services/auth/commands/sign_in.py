"""Signing in: the password was checked before; here the verdict is made, counted and kept, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.auth.commands.evidence import acting, note
from services.auth.commands.second_factor import spend_code
from services.auth.commands.tokens import Issued, begin_session
from services.auth.domain.accounts import Account
from services.auth.domain.errors import InvalidCredentials, SecondFactorInvalid, SecondFactorRequired
from services.auth.domain.hashing import Verdict
from services.auth.domain.lockout import Throttle
from services.auth.domain.rules import Rules
from services.auth.store import accounts, credentials, throttles
from shared.db import Connection
from shared.errors import Failure
from shared.sealing import Sealer

_NOBODY = 0  # no account has this id; an unknown address takes the same statements as a known one


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody typed an address and a password; what was found and what the slow hash said."""

    email: str
    account: Account | None
    verdict: Verdict
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the client is told, what the audit log is told, and whether this was a guess that counts."""

    failure: Failure
    reason: str
    counts: bool = True


async def sign_in(
    conn: Connection, sealer: Sealer, rules: Rules, attempt: Attempt, *, now: datetime
) -> Issued | Failure:
    """Begin a session, or refuse; a refusal is returned, for it is counted and must be committed."""
    account = await accounts.find_and_lock_account(conn, attempt.account.id if attempt.account else _NOBODY)
    throttle = await throttles.lock_throttle(conn, "sign-in", attempt.email)
    judged = _judge_password(attempt, account, throttle, now)
    if isinstance(judged, Account) and judged.has_second_factor:
        judged = await _judge_code(conn, sealer, judged, attempt.code, now)
    if isinstance(judged, Account):
        return await _begin(conn, sealer, rules, attempt, judged, now)
    if judged.counts:
        await throttles.save_throttle(conn, "sign-in", attempt.email, throttle.failed(now, rules.sign_ins))
    await note(
        conn,
        "sign_in",
        about=account,
        outcome="denied" if throttle.is_paused(now) else "failure",
        reason=judged.reason,
        severity="info" if isinstance(judged.failure, SecondFactorRequired) else "notice",
        email=attempt.email,
    )
    return judged.failure


async def renew_hash(conn: Connection, account: Account, password_hash: str) -> None:
    """Keep the password of somebody who signed in under today's parameters, unless it was changed meanwhile."""
    await credentials.save_rehash(conn, account.id, password_hash, epoch=account.credential_epoch)


def _judge_password(attempt: Attempt, account: Account | None, throttle: Throttle, now: datetime) -> Account | Refusal:
    if throttle.is_paused(now):
        return Refusal(InvalidCredentials(), "paused", counts=False)
    if account is None or attempt.account is None:
        return Refusal(InvalidCredentials(), "unknown address")
    if not attempt.verdict.matches:
        return Refusal(InvalidCredentials(), "wrong password")
    if not account.is_enabled:
        return Refusal(InvalidCredentials(), "disabled")
    if account.credential_epoch != attempt.account.credential_epoch:
        # The password was changed while the hash was computed: a right old password must not outlive it.
        return Refusal(InvalidCredentials(), "credentials changed")
    return account


async def _judge_code(
    conn: Connection, sealer: Sealer, account: Account, code: str | None, now: datetime
) -> Account | Refusal:
    if code is None:
        return Refusal(SecondFactorRequired(), "second factor missing", counts=False)
    if not await spend_code(conn, sealer, account.id, code, now=now):
        return Refusal(SecondFactorInvalid(), "second factor wrong")
    return account


async def _begin(
    conn: Connection, sealer: Sealer, rules: Rules, attempt: Attempt, account: Account, now: datetime
) -> Issued:
    await throttles.delete_throttle(conn, "sign-in", attempt.email)
    await credentials.save_signed_in(conn, account.id, now)
    issued = await begin_session(conn, sealer, rules, account, with_second_factor=account.has_second_factor, now=now)
    await note(
        conn, "sign_in", actor=acting(account), about=account, details={"second_factor": account.has_second_factor}
    )
    return issued
