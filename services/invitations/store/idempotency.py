"""Requests that carried an Idempotency-Key, and what they were answered."""

from services.invitations.domain.bulk import IdempotencyKeyReused, StillRunning
from shared.db import Connection, Row


async def claim_key(conn: Connection, account_id: int, key: str, fingerprint: bytes) -> Row | None:
    """Claim a key in the transaction of the work; gives the earlier request with that key, if there was one.

    The first holds a lock until that transaction ends, so that the second need not wait for it with a connection in its
    hand. Raises StillRunning, IdempotencyKeyReused.
    """
    if not await conn.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, $2))", key, account_id):
        raise StillRunning
    status = await conn.execute(
        """INSERT INTO idempotency_keys (account_id, key, fingerprint) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING""",
        account_id,
        key,
        fingerprint,
    )
    if not status.endswith(" 0"):
        return None
    row = await conn.fetchrow("SELECT * FROM idempotency_keys WHERE account_id = $1 AND key = $2", account_id, key)
    if row is not None and row["fingerprint"] != fingerprint:
        raise IdempotencyKeyReused
    return row


async def bind_key(conn: Connection, account_id: int, key: str, job_id: int) -> None:
    """Tie a key to the job that it started."""
    await conn.execute(
        "UPDATE idempotency_keys SET job_id = $3 WHERE account_id = $1 AND key = $2", account_id, key, job_id
    )


async def save_answer(conn: Connection, job_id: int, status: int, answer_sealed: bytes) -> None:
    """Keep what a request was answered."""
    await conn.execute(
        "UPDATE idempotency_keys SET status = $2, answer_sealed = $3 WHERE job_id = $1 AND status IS NULL",
        job_id,
        status,
        answer_sealed,
    )


async def forget_keys(conn: Connection, hours: int) -> int:
    """Drop keys that are older than clients may rely on."""
    status = await conn.execute(
        "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1)", hours
    )
    return int(status.rpartition(" ")[2])
