"""What invitations reacts to."""

from __future__ import annotations

from services.invitations.commands import accounts, placing
from services.invitations.context import Context
from shared.bus.handling import Handlers, outside
from shared.db import Connection
from shared.events import BulkChunkQueued, UserChanged, UserRegistered


async def copy_account(context: Context, conn: Connection, event: UserRegistered | UserChanged) -> None:
    """Keep the local copy of accounts."""
    del context
    await accounts.copy_account(conn, event)


@outside
async def place_chunk(context: Context, event: BulkChunkQueued) -> None:
    """Give codes to the rows of a chunk and send their messages.

    Outside the inbox's shared transaction: a chunk holds its sponsor's lock, and two chunks in one transaction
    would hold it for both. Rows that are placed already are left alone, so that a redelivery changes nothing.
    """
    async with context.database.transaction() as conn:
        placement = await placing.place_chunk(conn, event.job_id, event.first_row, event.last_row, context.terms())
    await context.sender.send_claimed(placement.delivery_ids)


EVENT_HANDLERS: Handlers = {UserRegistered: copy_account, UserChanged: copy_account}
CHUNK_HANDLERS: Handlers = {BulkChunkQueued: place_chunk}
