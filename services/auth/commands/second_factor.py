"""The second factor of an account: enrol, confirm, use, remove."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from uuid import UUID

from services.auth.commands.evidence import note
from services.auth.domain.accounts import Account
from services.auth.domain.errors import SecondFactorActive, SecondFactorInvalid, SecondFactorNotEnrolled
from services.auth.domain.rules import Rules
from services.auth.domain.second_factor import accepted_step, new_recovery_codes, new_seed, recovery_code_hash
from services.auth.store import accounts, credentials, sessions, throttles
from shared.db import Connection
from shared.errors import Failure, TooMany
from shared.identity import Principal
from shared.sealing import Sealer


async def enrol_second_factor(conn: Connection, sealer: Sealer, caller: Principal) -> tuple[str, str]:
    """Make a seed that counts once its first code is confirmed; gives it with the account's address."""
    account = await accounts.lock_account(conn, caller.id)
    if account.has_second_factor:
        raise SecondFactorActive
    seed = new_seed()
    await credentials.save_seed(conn, account.id, sealer.seal(seed.encode(), bound_to=_bound_to(account.id)))
    await note(conn, "second_factor.enrolled", actor=caller, about=account)
    return seed, account.email


async def confirm_second_factor(
    conn: Connection, sealer: Sealer, rules: Rules, caller: Principal, code: str, *, now: datetime
) -> list[str] | Failure:
    """Take the first code of a new seed; gives the recovery codes, which are shown this once."""
    account = await accounts.lock_account(conn, caller.id)
    if account.has_second_factor:
        raise SecondFactorActive
    spend = partial(_spend_app_code, conn, sealer, account.id, code, now=now)
    if refused := await _judge(conn, rules, caller, account, spend, now):
        return refused
    await sessions.save_session_with_second_factor(conn, UUID(caller.session_id))
    await note(conn, "second_factor.confirmed", actor=caller, about=account, severity="notice")
    return await _replace_recovery_codes(conn, account.id)


async def renew_recovery_codes(conn: Connection, caller: Principal) -> list[str]:
    """Replace the recovery codes."""
    account = await accounts.lock_account(conn, caller.id)
    if not account.has_second_factor:
        raise SecondFactorNotEnrolled
    await note(conn, "second_factor.recovery_codes_renewed", actor=caller, about=account, severity="notice")
    return await _replace_recovery_codes(conn, account.id)


async def remove_second_factor(conn: Connection, caller: Principal, *, now: datetime) -> None:
    """Remove the second factor."""
    account = await accounts.lock_account(conn, caller.id)
    if not account.has_second_factor:
        raise SecondFactorNotEnrolled
    await credentials.delete_second_factor(conn, account.id, now)
    await note(conn, "second_factor.removed", actor=caller, about=account, severity="warning")


async def judge_code(
    conn: Connection, sealer: Sealer, rules: Rules, caller: Principal, code: str, *, now: datetime
) -> Failure | None:
    """Take a code of the active second factor from somebody who is signed in."""
    account = await accounts.lock_account(conn, caller.id)
    if not account.has_second_factor:
        raise SecondFactorNotEnrolled
    return await _judge(conn, rules, caller, account, partial(spend_code, conn, sealer, account.id, code, now=now), now)


async def spend_code(conn: Connection, sealer: Sealer, account_id: int, code: str, *, now: datetime) -> bool:
    """Take a code of the app or a recovery code of a locked account, each once."""
    if await _spend_app_code(conn, sealer, account_id, code, now=now):
        return True
    if not await credentials.delete_recovery_code(conn, account_id, recovery_code_hash(code)):
        return False
    await note(conn, "second_factor.recovery_code_used", about=account_id, severity="notice")
    return True


async def _judge(
    conn: Connection,
    rules: Rules,
    caller: Principal,
    account: Account,
    spend: Callable[[], Awaitable[bool]],
    now: datetime,
) -> Failure | None:
    """Let a code be spent, or refuse; wrong codes count as failed sign-ins do."""
    throttle = await throttles.lock_throttle(conn, "sign-in", account.email)
    if throttle.is_paused(now):
        return TooMany(retry_after=throttle.seconds_left(now))
    if await spend():
        return None
    await throttles.save_throttle(conn, "sign-in", account.email, throttle.failed(now, rules.sign_ins))
    await note(
        conn,
        "second_factor.check",
        actor=caller,
        about=account,
        outcome="failure",
        reason="wrong code",
        severity="notice",
    )
    return SecondFactorInvalid()


async def _spend_app_code(conn: Connection, sealer: Sealer, account_id: int, code: str, *, now: datetime) -> bool:
    stored = await credentials.find_seed(conn, account_id)
    if stored is None:
        return False
    seed = sealer.open(stored.sealed, bound_to=_bound_to(account_id)).decode()
    step = accepted_step(seed, code, after=stored.last_step, now=now)
    if step is None:
        return False
    await credentials.save_step(conn, account_id, step, now)
    return True


async def _replace_recovery_codes(conn: Connection, account_id: int) -> list[str]:
    codes = new_recovery_codes()
    await credentials.save_recovery_codes(conn, account_id, [recovery_code_hash(code) for code in codes])
    return codes


async def reseal_seeds(conn: Connection, sealer: Sealer) -> int:
    """Seal seeds anew that an older secret key sealed; gives how many."""
    old = [seed for seed in await credentials.lock_seeds(conn) if not sealer.is_newest(seed[1])]
    for account_id, sealed in old:
        name = _bound_to(account_id)
        resealed = sealer.seal(sealer.open(sealed, bound_to=name), bound_to=name)
        await credentials.save_sealed_seed(conn, account_id, resealed)
    return len(old)


def _bound_to(account_id: int) -> str:
    return f"adminuser/{account_id}/totp"
