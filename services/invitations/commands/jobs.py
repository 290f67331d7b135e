"""Stopping a bulk job, and trying again what failed in it."""

from __future__ import annotations

from typing import Final

from services.invitations.commands.accounts import check_may_act_for
from services.invitations.commands.ending import end_invitations
from services.invitations.domain.bulk import Refusal
from services.invitations.domain.invitations import Status
from services.invitations.domain.jobs import CHUNK_ROWS, Job, NothingToCancel, NothingToRetry
from services.invitations.store import deliveries, jobs
from shared import audit, outbox
from shared.db import Connection
from shared.events import BulkChunkQueued, InvitationsAudit
from shared.events.audit import Target
from shared.identity import Principal

# Reasons that may have passed: codes were added, an invitation ended, an account is active or a provider well again.
_MAY_HAVE_PASSED: Final = (
    Refusal.INSUFFICIENT_CODES,
    Refusal.ALREADY_INVITED,
    Refusal.SPONSOR_DISABLED,
    Refusal.DELIVERY,
)


async def cancel_job(conn: Connection, caller: Principal, job_id: int) -> int:
    """Stop what nobody has begun to send; gives the number of rows. What is being sent goes on and is only observed."""
    job = await jobs.lock_job(conn, job_id)
    check_may_act_for(caller, job.sponsor_id)
    waiting = await jobs.cancel_waiting_rows(conn, job_id)
    unsent = await deliveries.list_unsent_of_job(conn, job_id)
    cancelled = waiting + await end_invitations(conn, unsent, Status.CANCELLED, "JOB_CANCELLED")
    if not cancelled:
        raise NothingToCancel
    await jobs.mark_cancelled(conn, job_id)
    await _record(conn, caller, job, "invitations.bulk.cancelled", cancelled)
    return cancelled


async def retry_job(conn: Connection, caller: Principal, job_id: int) -> int:
    """Put the rows that failed for a reason that may have passed back in line; gives their number."""
    job = await jobs.lock_job(conn, job_id)
    check_may_act_for(caller, job.sponsor_id)
    rows = await jobs.reopen_failed_rows(conn, job_id, _MAY_HAVE_PASSED)
    if not rows:
        raise NothingToRetry
    chunks = [
        BulkChunkQueued(job_id=job_id, sponsor_id=job.sponsor_id, first_row=chunk[0], last_row=chunk[-1])
        for chunk in (rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS))
    ]
    await outbox.add_many(conn, chunks)
    await _record(conn, caller, job, "invitations.bulk.retried", len(rows))
    return len(rows)


async def _record(conn: Connection, caller: Principal, job: Job, action: str, rows: int) -> None:
    await audit.record(
        conn,
        InvitationsAudit,
        action=action,
        actor=caller,
        target=Target(kind="bulk_job", id=str(job.id)),
        on_behalf_of=job.sponsor_id if job.sponsor_id != caller.id else None,
        details={"rows": rows},
    )
