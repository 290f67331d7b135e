"""What operators set right: messages that went down with the broker, tokens that an older key sealed."""

from __future__ import annotations

from services.invitations.domain import tokens
from services.invitations.domain.jobs import CHUNK_ROWS
from services.invitations.store import invitations, jobs
from shared import outbox
from shared.db import Connection
from shared.events import BulkChunkQueued
from shared.sealing import Sealer

_PAGE = 1_000


async def requeue_rows(conn: Connection) -> tuple[int, int]:
    """Put every row that still waits for its code in line again; gives the numbers of jobs and rows.

    A row that is in line already is placed once all the same: whoever comes second finds it placed.
    """
    waiting = await jobs.list_waiting_rows(conn)
    await outbox.add_many(
        conn,
        [
            BulkChunkQueued(job_id=job.job_id, sponsor_id=job.sponsor_id, first_row=chunk[0], last_row=chunk[-1])
            for job in waiting
            for chunk in (job.rows[start : start + CHUNK_ROWS] for start in range(0, len(job.rows), CHUNK_ROWS))
        ],
    )
    return len(waiting), sum(len(job.rows) for job in waiting)


async def reseal_tokens(conn: Connection, sealer: Sealer, *, after: int) -> tuple[int, int | None]:
    """Seal a page of tokens with the newest key; gives how many were changed, and the last id if there may be more."""
    page = await invitations.lock_sealed(conn, after, _PAGE)
    old = [row for row in page if not sealer.is_newest(row["token_sealed"])]
    resealed = []
    for row in old:
        name = tokens.seal_name(row["id"])
        resealed.append((row["id"], sealer.seal(sealer.open(row["token_sealed"], bound_to=name), bound_to=name)))
    await invitations.save_sealed(conn, resealed)
    return len(resealed), page[-1]["id"] if len(page) == _PAGE else None
