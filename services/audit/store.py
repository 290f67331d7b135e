"""All SQL of audit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import astuple, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.audit.domain.chain import Columns, Head, Record
from services.audit.domain.checkpoints import Checkpoint, NoCheckpointYet
from services.audit.domain.filters import EventFilter, Position
from services.audit.domain.personal import SealedPersonal
from shared.db import Connection, Row
from shared.events.audit import Actor

_COLUMNS: Final = tuple(each.name for each in fields(Columns))
_STORED: Final = ("seq", "prev_hash", "hash", "payload", *_COLUMNS)
_RECORD: Final = ", ".join(f"records.{name}" for name in _STORED)
_CHUNK: Final = 1_000
_LONG_SECONDS: Final = 3_600.0
_CONDITIONS: Final = {
    "since": "occurred_at >= {}",
    "until": "occurred_at < {}",
    "actor_id": "actor_id = {}",
    "action": "action = {}",
    "target": "target = {}",
    "outcome": "outcome = {}",
    "request_id": "request_id = {}",
    "service": "service = {}",
    "on_behalf_of": "on_behalf_of = {}",
}


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


async def list_seen(conn: Connection, event_ids: Sequence[UUID]) -> set[UUID]:
    """Say which of these events are in the log already; exact while the head is locked."""
    rows = await conn.fetch("SELECT event_id FROM seen_events WHERE event_id = ANY($1::uuid[])", event_ids)
    return {row["event_id"] for row in rows}


async def insert_records(conn: Connection, records: Sequence[Record]) -> None:
    """Append records and note which event each of them is."""
    rows = [(record.seq, record.prev_hash, record.hash, record.payload, record.columns) for record in records]
    await conn.copy_records_to_table(
        "records", records=[(*row[:4], *astuple(row[4])) for row in rows if row[4]], columns=list(_STORED)
    )
    await conn.copy_records_to_table(
        "seen_events",
        records=[(each.columns.event_id, each.seq, each.columns.recorded_at) for each in records if each.columns],
        columns=["event_id", "seq", "recorded_at"],
    )


async def find_record(conn: Connection, event_id: UUID) -> Record | None:
    """Find the record of an event."""
    row = await conn.fetchrow(
        f"SELECT {_RECORD} FROM seen_events JOIN records USING (seq, recorded_at) WHERE seen_events.event_id = $1",  # noqa: S608  our own column names
        event_id,
    )
    return _record(row) if row else None


async def list_records(conn: Connection, wanted: EventFilter, *, after: Position | None, limit: int) -> list[Record]:
    """List records newest first, behind the position where the page before ended."""
    sql, values = page_query(wanted, after=after, limit=limit)
    return [_record(row) for row in await conn.fetch(sql, *values)]


def page_query(wanted: EventFilter, *, after: Position | None, limit: int) -> tuple[str, list[Any]]:
    """Write the query of one page, so that a test can ask Postgres how it would go about it."""
    conditions, values = _where(wanted)
    if after is not None:
        values += [after.occurred_at, after.seq]
        conditions.append(f"(occurred_at, seq) < (${len(values) - 1}, ${len(values)})")
    values.append(limit)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {_RECORD} FROM records {where} ORDER BY occurred_at DESC, seq DESC LIMIT ${len(values)}", values  # noqa: S608  our own column names


async def list_stretch(conn: Connection, wanted: EventFilter, *, first: int, last: int) -> list[Record]:
    """List the matching records of a stretch of the chain, in its order."""
    conditions, values = _where(wanted)
    values += [first, last]
    conditions.append(f"seq BETWEEN ${len(values) - 1} AND ${len(values)}")
    rows = await conn.fetch(
        f"SELECT {_RECORD} FROM records WHERE {' AND '.join(conditions)} ORDER BY seq",  # noqa: S608  our own column names
        *values,
    )
    return [_record(row) for row in rows]


async def stream_records(conn: Connection, first: int, last: int | None) -> AsyncIterator[list[Record]]:
    """Read the chain in its order, some at a time; runs inside the caller's transaction."""
    cursor = await conn.cursor(
        f"SELECT {_RECORD} FROM records WHERE seq >= $1 AND seq <= $2 ORDER BY seq, recorded_at",  # noqa: S608  our own column names
        first,
        last if last is not None else 2**63 - 1,
    )
    while rows := await cursor.fetch(_CHUNK):
        yield [_record(row) for row in rows]


async def find_first_seq(conn: Connection) -> int | None:
    """Find the first place that is left; months may have been pruned before it."""
    first: int | None = await conn.fetchval("SELECT seq FROM records ORDER BY seq LIMIT 1")
    return first


async def find_hash(conn: Connection, seq: int) -> bytes | None:
    """Find the hash of the record in a place."""
    found: bytes | None = await conn.fetchval(
        "SELECT hash FROM records WHERE seq = $1 ORDER BY recorded_at LIMIT 1", seq
    )
    return found


async def insert_personal_keys(conn: Connection, sealed: Iterable[tuple[Record, SealedPersonal]]) -> None:
    """Keep the key of each record's personal data."""
    rows = [
        (record.columns.event_id, record.columns.recorded_at, record.columns.actor_id, each.subjects, each.wrapped_key)
        for record, each in sealed
        if record.columns
    ]
    if rows:
        await conn.copy_records_to_table(
            "personal_keys",
            records=rows,
            columns=["event_id", "recorded_at", "actor_id", "subjects", "wrapped_key"],
        )


async def list_personal_keys(conn: Connection, event_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Give the keys of these records' personal data; an erased one is missing."""
    rows = await conn.fetch(
        "SELECT event_id, wrapped_key FROM personal_keys WHERE event_id = ANY($1::uuid[])", event_ids
    )
    return {row["event_id"]: row["wrapped_key"] for row in rows}


async def delete_personal_keys_of_subject(conn: Connection, digests: Sequence[bytes]) -> int:
    """Throw away the keys of every record that names this phone or e-mail."""
    status = await conn.execute("DELETE FROM personal_keys WHERE subjects && $1::bytea[] AND subjects <> '{}'", digests)
    return int(status.rpartition(" ")[2])


async def delete_personal_keys_of_actor(conn: Connection, actor_id: int) -> int:
    """Throw away the keys of every record of what this account did."""
    status = await conn.execute("DELETE FROM personal_keys WHERE actor_id = $1", actor_id)
    return int(status.rpartition(" ")[2])


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


async def list_checkpoints(
    conn: Connection, *, first_seq: int = 0, after_number: int = 0, since: datetime | None = None
) -> list[Row]:
    """List checkpoints in their order."""
    return await conn.fetch(
        """SELECT number, seq, taken_at, note FROM checkpoints
           WHERE seq >= $1 AND number > $2 AND ($3::timestamptz IS NULL OR taken_at >= $3) ORDER BY number""",
        first_seq,
        after_number,
        since,
    )


async def find_last_pruning(conn: Connection) -> str | None:
    """Find the signed note about the last months that were dropped."""
    note: str | None = await conn.fetchval("SELECT note FROM prunings ORDER BY last_seq DESC LIMIT 1")
    return note


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
    """Take the oldest queued verification, or one whose worker died over it an hour ago."""
    return await conn.fetchrow(
        """UPDATE verifications SET status = 'running', started_at = now() WHERE id = (
               SELECT id FROM verifications
               WHERE status = 'queued' OR (status = 'running' AND started_at < now() - interval '1 hour')
               ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED)
           RETURNING id, whole, asked_by, request_id"""
    )


async def save_verification(conn: Connection, verification_id: UUID, *, ok: bool, last_seq: int, report: Any) -> None:
    """Keep the result of a verification."""
    await conn.execute(
        """UPDATE verifications SET status = 'finished', finished_at = now(), ok = $2, last_seq = $3, report = $4
           WHERE id = $1""",
        verification_id,
        ok,
        last_seq,
        report,
    )


async def find_last_verification(conn: Connection) -> Row | None:
    """Find the newest finished verification."""
    return await conn.fetchrow(
        "SELECT * FROM verifications WHERE status = 'finished' ORDER BY finished_at DESC LIMIT 1"
    )


async def find_pending_verification(conn: Connection) -> Row | None:
    """Find a verification that is queued or running."""
    return await conn.fetchrow("SELECT * FROM verifications WHERE status <> 'finished' ORDER BY requested_at LIMIT 1")


async def find_last_good_verification(conn: Connection, *, whole: bool) -> Row | None:
    """Find the newest verification that found nothing wrong."""
    return await conn.fetchrow(
        """SELECT * FROM verifications WHERE status = 'finished' AND ok AND (whole OR NOT $1)
           ORDER BY finished_at DESC LIMIT 1""",
        whole,
    )


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


async def drop_partitions(conn: Connection, names: Sequence[str], *, before: datetime) -> None:
    """Drop whole months and the keys of their personal data; only the owner of the tables can."""
    for name in names:
        await conn.execute(f'ALTER TABLE records DETACH PARTITION "{name}"')
        await conn.execute(f'DROP TABLE "{name}"')
    # Months of keys are more than the time of one ordinary statement allows for.
    await conn.execute("SET LOCAL statement_timeout = 0")
    await conn.execute("DELETE FROM personal_keys WHERE recorded_at < $1", before, timeout=_LONG_SECONDS)


async def insert_pruning(conn: Connection, last_seq: int, note: str) -> None:
    """Keep the signed note about dropped months."""
    await conn.execute("INSERT INTO prunings (last_seq, note) VALUES ($1, $2)", last_seq, note)


async def make_partitions(conn: Connection, ahead: int) -> list[str]:
    """Make the partitions of the coming months; gives the names of new ones."""
    return [row[0] for row in await conn.fetch("SELECT make_partitions($1)", ahead)]


def _where(wanted: EventFilter) -> tuple[list[str], list[Any]]:
    given = wanted.given()
    conditions = [_CONDITIONS[name].format(f"${number}") for number, name in enumerate(given, start=1)]
    return conditions, list(given.values())


def _head(row: Row | None) -> Head:
    if row is None:
        raise LookupError("the head of the chain is gone: somebody emptied chain_head")
    return Head(row["chain_id"], row["seq"], row["hash"], row["recorded_at"])


def _record(row: Row) -> Record:
    return Record(row["seq"], row["prev_hash"], row["hash"], row["payload"], Columns(*(row[name] for name in _COLUMNS)))
