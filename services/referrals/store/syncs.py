"""SQL of sync tasks."""

# ruff: noqa: S608  what is put into the statements is a constant list of columns

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from services.referrals.domain.failures import SyncNotFound
from services.referrals.domain.syncs import Counts, Listing, Mode, Sync, SyncState
from shared.db import Connection, Row
from shared.events.audit import Actor

_COLUMNS: Final = """task_id, mode, state, asked_by, listing, since, next_target, account_id, newest_at, newest_raw,
    pages, fetched, created, updated, unchanged, rejected, attempts, restarts, wait_until, requested_at, started_at,
    finished_at, error_code, error"""


async def insert_sync(conn: Connection, task_id: UUID, mode: Mode, asked_by: Actor) -> Sync | None:
    """Queue a task; None while another one is open (a unique index allows one)."""
    row = await conn.fetchrow(
        f"""INSERT INTO referral_syncs (task_id, mode, asked_by) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
        task_id,
        mode,
        asked_by.model_dump(),
    )
    return _sync(row) if row else None


async def find_open_sync(conn: Connection) -> Sync | None:
    """Give the task that is queued or running."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM referral_syncs WHERE state IN ('queued', 'running')")
    return _sync(row) if row else None


async def take_idle_sync(conn: Connection, idle_seconds: float) -> Sync | None:
    """Give the open task if its wait is over or nothing has moved it for so long; its time starts anew then."""
    row = await conn.fetchrow(
        f"""UPDATE referral_syncs SET moved_at = now(), wait_until = NULL
            WHERE state IN ('queued', 'running')
              AND coalesce(wait_until <= now(), moved_at < now() - make_interval(secs => $1))
            RETURNING {_COLUMNS}""",
        idle_seconds,
    )
    return _sync(row) if row else None


async def get_sync(conn: Connection, task_id: UUID) -> Sync:
    """Give a task."""
    return await _one(conn, f"SELECT {_COLUMNS} FROM referral_syncs WHERE task_id = $1", task_id)


async def lock_sync(conn: Connection, task_id: UUID) -> Sync:
    """Give a task, locked until the transaction ends."""
    return await _one(conn, f"SELECT {_COLUMNS} FROM referral_syncs WHERE task_id = $1 FOR UPDATE", task_id)


async def save_sync(conn: Connection, sync: Sync) -> None:
    """Write what a task has become."""
    await conn.execute(
        """UPDATE referral_syncs SET mode = $2, state = $3, listing = $4, since = $5, next_target = $6, account_id = $7,
               newest_at = $8, newest_raw = $9, pages = $10, fetched = $11, created = $12, updated = $13,
               unchanged = $14, rejected = $15, attempts = $16, restarts = $17, wait_until = $18, started_at = $19,
               finished_at = $20, error_code = $21, error = $22, moved_at = now()
           WHERE task_id = $1""",
        sync.task_id,
        sync.mode,
        sync.state,
        sync.listing,
        sync.since,
        sync.next_target,
        sync.account_id,
        sync.newest_at,
        sync.newest_raw,
        sync.pages,
        sync.counts.fetched,
        sync.counts.created,
        sync.counts.updated,
        sync.counts.unchanged,
        sync.counts.rejected,
        sync.attempts,
        sync.restarts,
        sync.wait_until,
        sync.started_at,
        sync.finished_at,
        sync.error_code,
        sync.error,
    )


async def list_syncs(conn: Connection, *, limit: int, after: tuple[datetime, UUID] | None) -> list[Sync]:
    """List tasks, the newest first."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM referral_syncs
            WHERE ($1::timestamptz IS NULL OR (requested_at, task_id) < ($1, $2))
            ORDER BY requested_at DESC, task_id DESC LIMIT $3""",
        after[0] if after else None,
        after[1] if after else None,
        limit,
    )
    return [_sync(row) for row in rows]


async def find_watermark(conn: Connection, account_id: str) -> datetime | None:
    """Say up to when finished syncs of this account have seen every change; another account may see other referrals.

    No later than a sync began: what changes on a page that it has passed, it does not see, however new the last page
    is. So a time in the future, a slip of somebody's clock, hides nothing either.
    """
    watermark: datetime | None = await conn.fetchval(
        """SELECT max(least(newest_at, started_at)) FROM referral_syncs
           WHERE state = 'succeeded' AND account_id = $1 AND newest_at IS NOT NULL""",
        account_id,
    )
    return watermark


async def find_last_sweep(conn: Connection, account_id: str) -> datetime | None:
    """Give the start of the last sweep of this account that saw everything."""
    started_at: datetime | None = await conn.fetchval(
        """SELECT max(started_at) FROM referral_syncs
           WHERE state = 'succeeded' AND listing = 'everything' AND account_id = $1""",
        account_id,
    )
    return started_at


async def find_last_request(conn: Connection) -> datetime | None:
    """Give the time when a sync was last asked for."""
    requested_at: datetime | None = await conn.fetchval("SELECT max(requested_at) FROM referral_syncs")
    return requested_at


async def asked_by(conn: Connection, task_id: UUID) -> Actor:
    """Say who asked for a task."""
    return Actor.model_validate(await conn.fetchval("SELECT asked_by FROM referral_syncs WHERE task_id = $1", task_id))


async def _one(conn: Connection, query: str, task_id: UUID) -> Sync:
    row = await conn.fetchrow(query, task_id)
    if row is None:
        raise SyncNotFound
    return _sync(row)


def _sync(row: Row) -> Sync:
    values = {name: row[name] for name in Sync.__slots__ if name in row and name not in {"state", "listing"}}
    return Sync(
        **values,
        state=SyncState(row["state"]),
        listing=Listing(row["listing"]) if row["listing"] else None,
        counts=Counts(row["fetched"], row["created"], row["updated"], row["unchanged"], row["rejected"]),
    )
