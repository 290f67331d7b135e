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


async def sign_in(
    conn: Connection, sealer: Sealer, rules: Rules, attempt: Attempt, *, now: datetime
) -> Issued | Failure:
    """Begin a session, or refuse; a refusal is returned, for it is counted and must be committed."""
    account = await accounts.find_and_lock_account(conn, attempt.account.id if attempt.account else _NOBODY)
    throttle = await throttles.lock_throttle(conn, "sign-in", attempt.email)
    reason = _refusal(attempt, account, throttle, now)
    if reason is not None or account is None:
        await _count(conn, attempt.email, throttle, rules, now)
        await note(
            conn,
            "sign_in",
            about=account,
            outcome="denied" if reason == "paused" else "failure",
            reason=reason,
            severity="notice",
            email=attempt.email,
        )
        return InvalidCredentials()
    if account.has_second_factor and (
        refused := await _second_factor(conn, sealer, rules, attempt, account, throttle, now)
    ):
        return refused
    return await _begin(conn, sealer, rules, attempt, account, now)


def _refusal(attempt: Attempt, account: Account | None, throttle: Throttle, now: datetime) -> str | None:
    if throttle.is_paused(now):
        return "paused"
    if account is None or attempt.account is None:
        return "unknown address"
    if not attempt.verdict.matches:
        return "wrong password"
    if not account.is_enabled:
        return "disabled"
    # The password was changed while the hash was computed: a right old password must not outlive it.
    return "credentials changed" if account.credential_epoch != attempt.account.credential_epoch else None


async def _count(conn: Connection, email: str, throttle: Throttle, rules: Rules, now: datetime) -> None:
    if throttle.is_paused(now):
        return
    await throttles.save_throttle(conn, "sign-in", email, throttle.failed(now, rules.sign_ins))


async def _second_factor(
    conn: Connection,
    sealer: Sealer,
    rules: Rules,
    attempt: Attempt,
    account: Account,
    throttle: Throttle,
    now: datetime,
) -> Failure | None:
    if attempt.code is None:
        await note(
            conn, "sign_in", about=account, outcome="failure", reason="second factor missing", email=attempt.email
        )
        return SecondFactorRequired()
    if await spend_code(conn, sealer, account.id, attempt.code, now=now):
        return None
    await _count(conn, attempt.email, throttle, rules, now)
    await note(
        conn,
        "sign_in",
        about=account,
        outcome="failure",
        reason="second factor wrong",
        severity="notice",
        email=attempt.email,
    )
    return SecondFactorInvalid()


async def _begin(
    conn: Connection, sealer: Sealer, rules: Rules, attempt: Attempt, account: Account, now: datetime
) -> Issued:
    await throttles.delete_throttle(conn, "sign-in", attempt.email)
    if attempt.verdict.new_hash:
        await credentials.save_rehash(conn, account.id, attempt.verdict.new_hash)
    await credentials.save_signed_in(conn, account.id, now)
    issued = await begin_session(conn, sealer, rules, account, with_second_factor=account.has_second_factor, now=now)
    await note(
        conn, "sign_in", actor=acting(account), about=account, details={"second_factor": account.has_second_factor}
    )
    return issued
