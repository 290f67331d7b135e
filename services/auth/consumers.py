"""What auth reacts to: its own events, for letters must not hold up or change the answer to a request."""

from __future__ import annotations

import logging

from services.auth.commands import passwords
from services.auth.context import Context
from services.auth.domain.letters import ChangedLetter
from services.auth.mailer import MailRefused
from services.auth.store import accounts
from shared.bus.handling import Handlers, outside
from shared.events import PasswordChanged, PasswordResetRequested

log = logging.getLogger(__name__)


@outside
async def deliver_reset_token(context: Context, event: PasswordResetRequested) -> None:
    """Make the token that was asked for and bring it to the stored address, again and again while mail is down."""
    async with context.database.transaction() as conn:
        written = await passwords.write_reset_letter(conn, context.sealer, context.rules, event, now=context.clock())
    if written is None:
        log.info("a reset request was served: nothing to deliver, the audit log says why")
        return
    account_id, letter = written
    try:
        await context.mailer.send(letter)
    except MailRefused as refused:
        async with context.database.transaction() as conn:
            await passwords.note_refusal(conn, account_id, refused.message)
        raise
    async with context.database.transaction() as conn:
        await passwords.note_delivery(conn, account_id, event.requested_at, now=context.clock())
    log.info("a reset request was served: the token is delivered")


@outside
async def tell_owner(context: Context, event: PasswordChanged) -> None:
    """Write to the owner that the password is another one now; twice after a crash rather than never."""
    async with context.database.connection() as conn:
        account = await accounts.get_account(conn, event.user_id)
    await context.mailer.send(ChangedLetter(account.email, account.full_name))


HANDLERS: Handlers = {
    PasswordResetRequested: deliver_reset_token,
    PasswordChanged: tell_owner,
}
