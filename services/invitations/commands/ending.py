"""The end of open invitations, whoever or whatever ends them."""

from collections.abc import Sequence

from services.invitations.domain.invitations import Status
from services.invitations.store import codes, deliveries, invitations, jobs
from shared.db import Connection


async def end_invitations(conn: Connection, invitation_ids: Sequence[int], status: Status, reason: str) -> int:
    """End those that are open: no message of theirs begins any more, their codes are free again; gives their number."""
    await deliveries.cancel_unsent(conn, invitation_ids)
    closed = await invitations.close_invitations(conn, invitation_ids, status, reason)
    await codes.release_codes(conn, [row["id"] for row in closed])
    # Of all of them: one that was accepted by a link from the results has a message that begins no more either.
    await jobs.save_unsent_as_cancelled(conn, invitation_ids)
    return len(closed)
