"""Forgotten, reset and changed passwords."""

from __future__ import annotations

from services.auth.commands import passwords as commands
from services.auth.routes.door import ContextHere, SignedIn, given, make_router
from services.auth.routes.proof import prove
from services.auth.schemas import Done, NewPassword, PasswordChange, ResetRequest, ResetToken

router = make_router("passwords")

# The same bytes for every account and for none.
_REQUESTED = "If an account with this address exists, a message with a reset token is on its way to it."


@router.post("/request-password-reset")
async def request_password_reset(body: ResetRequest, context: ContextHere) -> Done:
    """Ask for a reset token; the answer says nothing about the account."""
    async with context.database.transaction() as conn:
        await commands.request_password_reset(conn, body.email, now=context.clock())
    return Done(message=_REQUESTED)


@router.post("/reset-password")
async def reset_password(body: NewPassword, context: ContextHere) -> Done:
    """Set a new password with a reset token; ends all sessions and signs nobody in."""
    async with context.database.transaction() as conn:
        found = await commands.examine_reset_token(
            conn, context.sealer, context.rules, body.token.get_secret_value(), now=context.clock()
        )
    claims, account = given(found)
    # A weak password leaves the token usable, and the slow hash runs before the transaction that spends it.
    password = context.policy.accept(
        body.new_password.get_secret_value(), email=account.email, full_name=account.full_name
    )
    password_hash = await context.hasher.hash(password)
    async with context.database.transaction() as conn:
        result = await commands.reset_password(conn, claims, password_hash, now=context.clock())
    given(result)
    return Done(message="The password is set. Sign in with it.")


@router.post("/cancel-password-reset")
async def cancel_password_reset(body: ResetToken, context: ContextHere) -> Done:
    """Make a reset token worthless: for an owner who did not ask for it."""
    async with context.database.transaction() as conn:
        result = await commands.cancel_reset(
            conn, context.sealer, context.rules, body.token.get_secret_value(), now=context.clock()
        )
    given(result)
    return Done(message="The link is worth nothing any more. Your password stays as it was.")


@router.post("/change-password")
async def change_password(body: PasswordChange, caller: SignedIn, context: ContextHere) -> Done:
    """Change the own password; ends the other sessions."""
    account = await prove(context, caller, body.current_password.get_secret_value())
    password = context.policy.accept(
        body.new_password.get_secret_value(), email=account.email, full_name=account.full_name
    )
    password_hash = await context.hasher.hash(password)
    async with context.database.transaction() as conn:
        await commands.change_password(conn, caller, password_hash, epoch=account.credential_epoch, now=context.clock())
    return Done(message="The password is changed. Your other sessions are over.")
