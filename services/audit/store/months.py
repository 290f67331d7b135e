"""Months of the log: the tables that hold them, made ahead of time and dropped whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg

from services.audit.domain.months import LogInUse
from shared.db import Connection, Row

_LOCK_SECONDS: Final = 3


async def hold_months(conn: Connection) -> None:
    """Let nobody drop a month until the transaction ends; must come before the transaction's first look at the data."""
    await conn.execute("LOCK TABLE records IN ACCESS SHARE MODE")


async def hold_as_long_as_it_takes(conn: Connection) -> None:
    """Let the transaction wait for us without end: to read back a month of evidence takes longer than usual."""
    await conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


async def list_partitions(conn: Connection) -> list[str]:
    """List the months of the log by the names of their tables, oldest first."""
    rows = await conn.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'records'::regclass ORDER BY name"
    )
    return [row["name"] for row in rows]


async def find_places(conn: Connection, since: datetime, until: datetime) -> tuple[int, int] | None:
    """Find the first and the last place that was taken in a time of recording."""
    row = await conn.fetchrow(
        "SELECT min(seq) AS first, max(seq) AS last FROM records WHERE recorded_at >= $1 AND recorded_at < $2",
        since,
        until,
    )
    return (row["first"], row["last"]) if row and row["first"] is not None else None


async def drop_partitions(conn: Connection, names: Sequence[str]) -> None:
    """Drop whole months; only the owner of the tables can; raises LogInUse."""
    # Whoever waits for this lock keeps everybody else from reading: rather not for long.
    await conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
    try:
        for name in names:
            await conn.execute(f'ALTER TABLE records DETACH PARTITION "{name}"')
            await conn.execute(f'DROP TABLE "{name}"')
    except asyncpg.LockNotAvailableError:
        raise LogInUse from None


async def find_last_pruning(conn: Connection) -> Row | None:
    """Find what was noted when months were dropped last: last_seq, note."""
    return await conn.fetchrow("SELECT last_seq, note FROM prunings ORDER BY last_seq DESC LIMIT 1")


async def insert_pruning(conn: Connection, last_seq: int, note: str) -> None:
    """Keep the signed note about dropped months."""
    await conn.execute("INSERT INTO prunings (last_seq, note) VALUES ($1, $2)", last_seq, note)


async def make_partitions(conn: Connection, ahead: int) -> list[str]:
    """Make the partitions of the coming months; gives the names of new ones."""
    return [row[0] for row in await conn.fetch("SELECT make_partitions($1)", ahead)]
