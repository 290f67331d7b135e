"""Proof that a signed-in person is the owner of the account: the password, once more (ASVS 7.5.1)."""

from __future__ import annotations

from services.auth.commands.passwords import judge_current_password
from services.auth.context import Context
from services.auth.domain.accounts import Account
from services.auth.routes.door import given
from services.auth.store import accounts
from shared.identity import Principal


async def prove(context: Context, caller: Principal, password: str) -> Account:
    """Give the caller's account, or refuse; wrong passwords count as failed sign-ins do."""
    async with context.database.connection() as conn:
        account = await accounts.get_account(conn, caller.id)
    verdict = await context.hasher.verify(account.password_hash, password)
    async with context.database.transaction() as conn:
        result = await judge_current_password(conn, context.rules, caller, account, verdict, now=context.clock())
    given(result)
    return account
