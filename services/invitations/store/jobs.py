"""Bulk jobs and their rows."""

from collections.abc import Sequence
from typing import NamedTuple

from services.invitations.domain.bulk import Channel, Door, Refusal, RowOutcome
from services.invitations.domain.jobs import Job, JobUnknown, Progress
from shared.db import Connection, Row
from shared.events.audit import Actor

_JOB = """SELECT jobs.*, accounts.full_name AS sponsor_name
            FROM jobs JOIN accounts ON accounts.id = jobs.sponsor_id"""
# "Is this job done?" of the table `jobs`.
_IS_SETTLED = (
    "NOT EXISTS (SELECT FROM job_rows WHERE job_id = jobs.id AND outcome IN ('waiting', 'sending', 'unknown'))"
)


class NewRow(NamedTuple):
    """A row as it is stored; the order is that of the columns in `insert_rows`."""

    row_no: int
    phone_text: str
    phone: str | None
    farmer_name: str
    email: str | None
    notes: str | None
    tier: str | None
    code_count: int
    outcome: RowOutcome
    refusal: Refusal | None
    reason: str | None


class RowUpdate(NamedTuple):
    """What became of one row."""

    job_id: int
    row_no: int
    outcome: RowOutcome
    refusal: Refusal | None = None
    reason: str | None = None
    invitation_id: int | None = None


async def insert_job(
    conn: Connection,
    *,
    sponsor_id: int,
    actor: Actor,
    door: Door,
    channel: Channel,
    custom_message: str | None,
    request_id: str,
    consent_evidence: str | None,
    is_commercial: bool,
    file_sha256: bytes | None = None,
) -> int:
    """Open a job; gives its id."""
    job_id: int = await conn.fetchval(
        """INSERT INTO jobs
                  (sponsor_id, actor, door, channel, custom_message, request_id, consent_evidence, is_commercial,
                   file_sha256)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id""",
        sponsor_id,
        actor.model_dump(mode="json"),
        door,
        channel,
        custom_message,
        request_id,
        consent_evidence,
        is_commercial,
        file_sha256,
    )
    return job_id


async def find_upload(conn: Connection, sponsor_id: int, file_sha256: bytes, hours: int) -> int | None:
    """Find the last job of a sponsor that came from the very same file in the last hours."""
    job_id: int | None = await conn.fetchval(
        """SELECT max(id) FROM jobs
            WHERE sponsor_id = $1 AND file_sha256 = $2 AND created_at > now() - make_interval(hours => $3)""",
        sponsor_id,
        file_sha256,
        hours,
    )
    return job_id


async def insert_rows(conn: Connection, job_id: int, rows: Sequence[NewRow]) -> None:
    """Copy rows in; twice the same row number is an error of the caller."""
    await conn.copy_records_to_table(
        "job_rows", columns=["job_id", *NewRow._fields], records=[(job_id, *row) for row in rows]
    )


async def set_total(conn: Connection, job_id: int, total: int) -> None:
    """Note how many rows the job has."""
    await conn.execute("UPDATE jobs SET total_rows = $2 WHERE id = $1", job_id, total)


async def get_job(conn: Connection, job_id: int) -> Job:
    """Give a job; raises JobUnknown."""
    return _job(await conn.fetchrow(f"{_JOB} WHERE jobs.id = $1", job_id))


async def lock_job(conn: Connection, job_id: int) -> Job:
    """Give a job and keep others from cancelling or retrying it; raises JobUnknown."""
    return _job(await conn.fetchrow(f"{_JOB} WHERE jobs.id = $1 FOR NO KEY UPDATE OF jobs", job_id))


async def list_jobs(conn: Connection, job_ids: Sequence[int]) -> dict[int, Job]:
    """Give several jobs by id."""
    return {row["id"]: _job(row) for row in await conn.fetch(f"{_JOB} WHERE jobs.id = ANY ($1)", job_ids)}


async def list_recent_jobs(
    conn: Connection, *, sponsor_id: int | None, is_running: bool | None, before_id: int | None, limit: int
) -> list[Job]:
    """List jobs, the newest first."""
    rows = await conn.fetch(
        f"""{_JOB} WHERE ($1::bigint IS NULL OR jobs.sponsor_id = $1)
               AND ($2::boolean IS NULL OR (jobs.finished_at IS NULL) = $2)
               AND ($3::bigint IS NULL OR jobs.id < $3)
             ORDER BY jobs.id DESC LIMIT $4""",
        sponsor_id,
        is_running,
        before_id,
        limit,
    )
    return [_job(row) for row in rows]


async def list_progress(conn: Connection, listed: Sequence[Job]) -> dict[int, Progress]:
    """Count the rows of several jobs by outcome, in one statement."""
    rows = await conn.fetch(
        """SELECT job_id, outcome, count(*) AS number FROM job_rows WHERE job_id = ANY ($1)
            GROUP BY job_id, outcome""",
        [job.id for job in listed],
    )
    counts: dict[int, dict[RowOutcome, int]] = {job.id: {} for job in listed}
    for row in rows:
        counts[row["job_id"]][RowOutcome(row["outcome"])] = row["number"]
    return {
        job.id: Progress(counts[job.id], job.created_at, job.finished_at, job.cancelled_at is not None)
        for job in listed
    }


async def lock_waiting_rows(conn: Connection, job_id: int, first_row: int, last_row: int) -> list[Row]:
    """Take the rows of a chunk that nobody has placed yet, in file order."""
    return await conn.fetch(
        """SELECT row_no, phone_text, phone, farmer_name, email, notes, tier, code_count FROM job_rows
            WHERE job_id = $1 AND row_no BETWEEN $2 AND $3 AND outcome = 'waiting' ORDER BY row_no FOR UPDATE""",
        job_id,
        first_row,
        last_row,
    )


async def save_rows(conn: Connection, updates: Sequence[RowUpdate]) -> None:
    """Note what became of rows that are not settled yet; a settled row stays as it is."""
    if not updates:
        return
    await conn.execute(
        """UPDATE job_rows AS r SET outcome = u.outcome, refusal = u.refusal, reason = u.reason,
                  invitation_id = coalesce(u.invitation_id, r.invitation_id)
             FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $6::bigint[])
                  AS u (job_id, row_no, outcome, refusal, reason, invitation_id)
            WHERE r.job_id = u.job_id AND r.row_no = u.row_no
              AND r.outcome IN ('waiting', 'sending', 'unknown', 'needs_review')""",
        *map(list, zip(*updates, strict=True)),
    )


async def get_progress(conn: Connection, job_id: int) -> Progress:
    """Count a job's rows by outcome; raises JobUnknown."""
    job = await get_job(conn, job_id)
    return (await list_progress(conn, [job]))[job_id]


async def list_results(
    conn: Connection, job_id: int, after_row: int, limit: int, *, only: RowOutcome | None = None
) -> list[Row]:
    """Give rows with what became of them, in file order; all, or those with one outcome."""
    return await conn.fetch(
        """SELECT r.*, i.token_sealed, i.tier AS given_tier, i.status AS invitation_status
             FROM job_rows AS r LEFT JOIN invitations AS i ON i.id = r.invitation_id
            WHERE r.job_id = $1 AND r.row_no > $2 AND ($4::text IS NULL OR r.outcome = $4)
            ORDER BY r.row_no LIMIT $3""",
        job_id,
        after_row,
        limit,
        only,
    )


async def finish_jobs(conn: Connection) -> list[int]:
    """Mark jobs of which every row is settled; gives their ids, each once.

    A job that somebody holds, to retry it, is left for the next time: in one statement with the lock, its rows would be
    seen as they were before the wait. Once it is held here they are looked at again.
    """
    found = await conn.fetch(
        f"""SELECT id FROM jobs WHERE finished_at IS NULL AND total_rows > 0 AND {_IS_SETTLED}
               FOR NO KEY UPDATE SKIP LOCKED"""  # noqa: S608 - a constant of ours
    )
    rows = await conn.fetch(
        f"UPDATE jobs SET finished_at = now() WHERE id = ANY ($1) AND {_IS_SETTLED} RETURNING id",  # noqa: S608 - a constant of ours
        [row["id"] for row in found],
    )
    return [row["id"] for row in rows]


async def mark_reported(conn: Connection, job_id: int) -> bool:
    """Note that the answer of a call was given; False when it was given already."""
    status = await conn.execute("UPDATE jobs SET reported_at = now() WHERE id = $1 AND reported_at IS NULL", job_id)
    return not status.endswith(" 0")


async def list_abandoned_calls(conn: Connection, older_than_seconds: float) -> list[int]:
    """Find calls, not uploads, whose process died before it could answer."""
    rows = await conn.fetch(
        """SELECT id FROM jobs WHERE reported_at IS NULL AND door IN ('admin_json', 'single')
              AND created_at < now() - make_interval(secs => $1) ORDER BY id LIMIT 20""",
        older_than_seconds,
    )
    return [row["id"] for row in rows]


class WaitingRows(NamedTuple):
    """The rows of one job that nobody has placed yet, in file order."""

    job_id: int
    sponsor_id: int
    rows: list[int]


async def list_waiting_rows(conn: Connection) -> list[WaitingRows]:
    """List what waits in every job."""
    found = await conn.fetch(
        """SELECT jobs.id, jobs.sponsor_id, array_agg(job_rows.row_no ORDER BY job_rows.row_no) AS rows
             FROM jobs JOIN job_rows ON job_rows.job_id = jobs.id
            WHERE jobs.finished_at IS NULL AND job_rows.outcome = 'waiting'
            GROUP BY jobs.id ORDER BY jobs.id"""
    )
    return [WaitingRows(*row) for row in found]


async def cancel_waiting_rows(conn: Connection, job_id: int) -> int:
    """Cancel the rows that were not placed yet."""
    status = await conn.execute(
        "UPDATE job_rows SET outcome = 'cancelled' WHERE job_id = $1 AND outcome = 'waiting'", job_id
    )
    return int(status.rpartition(" ")[2])


async def mark_cancelled(conn: Connection, job_id: int) -> None:
    """Note that somebody stopped the job."""
    await conn.execute("UPDATE jobs SET cancelled_at = now() WHERE id = $1", job_id)


async def reopen_failed_rows(conn: Connection, job_id: int, refusals: Sequence[Refusal]) -> list[int]:
    """Put rows that failed for such a reason back in line; gives their numbers in file order.

    Not one whose farmer had accepted by the link before its message was refused: it has what it was to get.
    """
    rows = await conn.fetch(
        """UPDATE job_rows AS r SET outcome = 'waiting', refusal = NULL, reason = NULL, invitation_id = NULL
            WHERE job_id = $1 AND outcome = 'failed' AND refusal = ANY ($2)
              AND NOT EXISTS (SELECT FROM invitations AS i WHERE i.id = r.invitation_id AND i.status = 'Accepted')
        RETURNING row_no""",
        job_id,
        refusals,
    )
    if rows:
        await conn.execute("UPDATE jobs SET finished_at = NULL, cancelled_at = NULL WHERE id = $1", job_id)
    return sorted(row["row_no"] for row in rows)


def _job(row: Row | None) -> Job:
    if row is None:
        raise JobUnknown
    return Job(
        id=row["id"],
        sponsor_id=row["sponsor_id"],
        sponsor_name=row["sponsor_name"],
        actor=Actor.model_validate(row["actor"]),
        door=Door(row["door"]),
        channel=Channel(row["channel"]),
        custom_message=row["custom_message"],
        request_id=row["request_id"],
        total_rows=row["total_rows"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        cancelled_at=row["cancelled_at"],
    )


async def save_unsent_as_cancelled(conn: Connection, invitation_ids: Sequence[int]) -> None:
    """Settle the rows of invitations that ended before their message was sent."""
    await conn.execute(
        """UPDATE job_rows AS r SET outcome = 'cancelled' FROM invitations AS i
            WHERE i.id = ANY ($1) AND r.job_id = i.job_id AND r.row_no = i.row_no AND r.invitation_id = i.id
              AND r.outcome IN ('waiting', 'sending')
              AND NOT EXISTS (SELECT FROM deliveries WHERE invitation_id = i.id AND state IN ('sending', 'unknown'))""",
        invitation_ids,
    )
