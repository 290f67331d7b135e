"""Verifications and their results, and what operators said about findings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.audit.domain.findings import Acknowledgement
from shared.db import Connection, Row
from shared.events.audit import Actor

# A report may name a thousand findings.
_CHUNK: Final = 50


async def insert_verification(
    conn: Connection, verification_id: UUID, *, whole: bool, asked_by: Actor, request_id: str
) -> None:
    """Queue a verification."""
    await conn.execute(
        """INSERT INTO verifications (id, status, whole, requested_by, asked_by, request_id)
           VALUES ($1, 'queued', $2, $3, $4, $5)""",
        verification_id,
        whole,
        asked_by.id,
        asked_by.model_dump(),
        request_id,
    )


async def claim_verification(conn: Connection) -> Row | None:
    """Take the oldest queued verification, or one whose worker has died over it."""
    return await conn.fetchrow(
        """UPDATE verifications SET status = 'running', started_at = now() WHERE id = (
               SELECT id FROM verifications
               WHERE status = 'queued' OR (status = 'running' AND started_at < now() - interval '1 minute'
                   AND pg_try_advisory_xact_lock(hashtextextended('verification ' || id, 0)))
               ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED)
           RETURNING id, whole, asked_by, request_id"""
    )


async def hold_verification(conn: Connection, verification_id: UUID) -> None:
    """Let nobody else take a running verification for as long as the connection lives, or until it is given back."""
    await conn.execute("SELECT pg_advisory_lock(hashtextextended('verification ' || $1::uuid, 0))", verification_id)


async def save_verification(
    conn: Connection, verification_id: UUID, *, finished_at: datetime, ok: bool, last_seq: int, report: Any
) -> Row:
    """Keep the result of a verification; gives the row, for its signature."""
    row = await conn.fetchrow(
        """UPDATE verifications SET status = 'finished', finished_at = $2, ok = $3, last_seq = $4, report = $5
           WHERE id = $1 RETURNING *""",
        verification_id,
        finished_at,
        ok,
        last_seq,
        report,
    )
    if row is None:
        raise LookupError(f"verification {verification_id} is gone")
    return row


async def save_signature(conn: Connection, verification_id: UUID, signature: bytes) -> None:
    """Keep the signature of a result."""
    await conn.execute("UPDATE verifications SET signature = $2 WHERE id = $1", verification_id, signature)


async def list_results(conn: Connection, *, good: bool, whole: bool, limit: int) -> list[Row]:
    """List finished verifications, newest first: all, good ones, or those of the whole log."""
    return await conn.fetch(
        """SELECT * FROM verifications WHERE status = 'finished' AND (ok OR NOT $1) AND (whole OR NOT $2)
           ORDER BY finished_at DESC LIMIT $3""",
        good,
        whole,
        limit,
    )


async def stream_results(conn: Connection, *, since: datetime | None) -> AsyncIterator[list[Row]]:
    """Read every finished verification, or those since a time, some at a time; runs inside the caller's transaction."""
    cursor = await conn.cursor(
        "SELECT * FROM verifications WHERE status = 'finished' AND ($1::timestamptz IS NULL OR finished_at >= $1)",
        since,
    )
    while rows := await cursor.fetch(_CHUNK):
        yield rows


async def delete_results(conn: Connection, *, days: int) -> None:
    """Forget old results; what they found is in the log. The newest good ones stay: the next one goes on from there."""
    await conn.execute(
        """DELETE FROM verifications WHERE finished_at < now() - make_interval(days => $1) AND id NOT IN (
               SELECT DISTINCT ON (whole) id FROM verifications WHERE status = 'finished' AND ok
               ORDER BY whole, finished_at DESC)""",
        days,
    )


async def list_pending_verifications(conn: Connection) -> list[Row]:
    """List the verifications that are queued or running, the one that is next at first."""
    return await conn.fetch(
        "SELECT * FROM verifications WHERE status <> 'finished' ORDER BY status = 'running' DESC, requested_at"
    )


async def insert_acknowledgement(conn: Connection, row_id: UUID, made: Acknowledgement, signature: bytes) -> None:
    """Keep an operator's word about a finding."""
    await conn.execute(
        """INSERT INTO acknowledgements (id, kind, seq, detail, reason, os_user, host, acknowledged_at, signature)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        row_id,
        made.finding.kind,
        made.finding.seq,
        made.finding.detail,
        made.reason,
        made.os_user,
        made.host,
        made.acknowledged_at,
        signature,
    )


async def list_acknowledgements(conn: Connection) -> list[Row]:
    """List what operators have said about findings."""
    return await conn.fetch("SELECT * FROM acknowledgements ORDER BY acknowledged_at")
