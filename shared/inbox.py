"""The inbox: each event has its effect once, however often it is delivered.

The row is written in the transaction of the effect: either both are there or neither. A second worker with the same
event waits on the unique index until the first has committed, then finds the row and does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shared.db import Connection


async def claim(conn: Connection, consumer: str, event_ids: Sequence[UUID]) -> set[UUID]:
    """Take these events for this consumer; gives those that nobody handled before."""
    rows = await conn.fetch(
        """INSERT INTO inbox (consumer, event_id) SELECT $1, id FROM unnest($2::uuid[]) AS id ORDER BY id
           ON CONFLICT DO NOTHING RETURNING event_id""",
        consumer,
        event_ids,
    )
    return {row["event_id"] for row in rows}


async def forget_before(conn: Connection, days: int, limit: int = 10_000) -> int:
    """Drop rows older than any message may live (ladder and redrive), a bounded number at a time."""
    status = await conn.execute(
        """DELETE FROM inbox WHERE ctid = ANY (ARRAY(
               SELECT ctid FROM inbox WHERE received_at < now() - make_interval(days => $1) LIMIT $2))""",
        days,
        limit,
    )
    return int(status.rpartition(" ")[2])
