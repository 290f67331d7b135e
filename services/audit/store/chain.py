"""The head of the chain."""

from __future__ import annotations

from datetime import datetime

from services.audit.domain.chain import Head
from shared.db import Connection, Row


async def lock_head(conn: Connection) -> tuple[Head, datetime]:
    """Hold the end of the chain until the transaction ends, and read the database's clock while holding it."""
    row = await conn.fetchrow("SELECT *, clock_timestamp() AS now FROM chain_head FOR UPDATE")
    head = _head(row)
    now: datetime = row["now"]  # type: ignore[index]  # _head has refused a missing row
    return head, now


async def find_head(conn: Connection) -> Head | None:
    """Say where the chain stands; None when somebody has emptied its table."""
    row = await conn.fetchrow("SELECT * FROM chain_head")
    return _head(row) if row else None


async def get_head(conn: Connection) -> Head:
    """Say where the chain stands."""
    return _head(await conn.fetchrow("SELECT * FROM chain_head"))


async def save_head(conn: Connection, head: Head) -> None:
    """Move the end of the chain."""
    await conn.execute(
        "UPDATE chain_head SET seq = $1, hash = $2, recorded_at = $3", head.seq, head.hash, head.recorded_at
    )


async def read_clock(conn: Connection) -> datetime:
    """Read the database's clock."""
    now: datetime = await conn.fetchval("SELECT clock_timestamp()")
    return now


def _head(row: Row | None) -> Head:
    if row is None:
        raise LookupError("the head of the chain is gone: somebody emptied chain_head")
    return Head(row["chain_id"], row["seq"], row["hash"], row["recorded_at"])
