"""Signed checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

from services.audit.domain.checkpoints import Checkpoint, NoCheckpointYet
from shared.db import Connection, Row

_CHUNK: Final = 1_000


async def find_last_checkpoint(conn: Connection) -> Row | None:
    """Find the newest checkpoint: number, seq, taken_at, note."""
    return await conn.fetchrow("SELECT number, seq, taken_at, note FROM checkpoints ORDER BY number DESC LIMIT 1")


async def get_last_checkpoint(conn: Connection) -> Row:
    """Give the newest checkpoint; raises NoCheckpointYet."""
    row = await find_last_checkpoint(conn)
    if row is None:
        raise NoCheckpointYet
    return row


async def insert_checkpoint(conn: Connection, checkpoint: Checkpoint, note: str) -> None:
    """Keep a signed checkpoint."""
    await conn.execute(
        "INSERT INTO checkpoints (number, seq, taken_at, note) VALUES ($1, $2, $3, $4)",
        checkpoint.number,
        checkpoint.seq,
        checkpoint.taken_at,
        note,
    )


async def list_checkpoints(conn: Connection, *, after_number: int, limit: int) -> list[Row]:
    """List the next checkpoints: number, note."""
    return await conn.fetch(
        "SELECT number, note FROM checkpoints WHERE number > $1 ORDER BY number LIMIT $2", after_number, limit
    )


async def stream_checkpoints(
    conn: Connection, *, first_seq: int, last_seq: int | None, since: datetime | None
) -> AsyncIterator[list[Row]]:
    """Read the checkpoints that speak of these places, in their order; runs inside the caller's transaction.

    `since`: from the first of that time on, and none behind it is left out: while a clock is wrong, their times do not
    follow their numbers. (OFFSET 0: for the index on places; by number the first one is found at the end.)
    """
    cursor = await conn.cursor(
        """SELECT number, seq, taken_at, note FROM checkpoints
           WHERE seq >= $1 AND ($2::bigint IS NULL OR seq <= $2) AND ($3::timestamptz IS NULL OR number >= (
               SELECT min(number) FROM (
                   SELECT number FROM checkpoints WHERE seq >= $1 AND taken_at >= $3 OFFSET 0) AS later))
           ORDER BY number""",
        first_seq,
        last_seq,
        since,
    )
    while rows := await cursor.fetch(_CHUNK):
        yield rows


async def list_notes(conn: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """Give the notes of these checkpoints, as far as they are there."""
    rows = await conn.fetch("SELECT number, note FROM checkpoints WHERE number = ANY($1::bigint[])", numbers)
    return {row["number"]: row["note"] for row in rows}
