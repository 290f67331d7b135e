"""The inbox: each event has its effect once, however often it is delivered.

The row is written in the transaction of the effect: either both are there or neither. A second worker with the same
event waits on the unique index until the first has committed, then finds the row and does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shared.db import Connection, Database

_AT_A_TIME: Final = 10_000


async def claim(conn: Connection, consumer: str, event_ids: Sequence[UUID]) -> set[UUID]:
    """Take these events for this consumer; gives those that nobody handled before."""
    rows = await conn.fetch(
        """INSERT INTO inbox (consumer, event_id) SELECT $1, id FROM unnest($2::uuid[]) AS id ORDER BY id
           ON CONFLICT DO NOTHING RETURNING event_id""",
        consumer,
        event_ids,
    )
    return {row["event_id"] for row in rows}


async def forget_all_before(database: Database, days: int, at_a_time: int = _AT_A_TIME) -> None:
    """Drop every row older than any message may live (ladder and redrive), in transactions that stay short."""
    async with database.connection() as conn:
        while await forget_before(conn, days, at_a_time) == at_a_time:
            pass


async def forget_before(conn: Connection, days: int, limit: int = _AT_A_TIME) -> int:
    """Drop old rows, a bounded number at a time; gives how many."""
    status = await conn.execute(
        """DELETE FROM inbox WHERE ctid = ANY (ARRAY(
               SELECT ctid FROM inbox WHERE received_at < now() - make_interval(days => $1) LIMIT $2))""",
        days,
        limit,
    )
    return int(status.rpartition(" ")[2])
