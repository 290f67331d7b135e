"""Records: appended, found, paged, and read from one end to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple, fields
from typing import Any, Final
from uuid import UUID

from services.audit.domain.chain import Columns, Record
from services.audit.domain.filters import EventFilter, Position
from services.audit.domain.verification import Beside
from services.audit.store.personal_keys import kept_key
from shared.db import Connection, Row

_COLUMNS: Final = tuple(each.name for each in fields(Columns))
_STORED: Final = ("seq", "prev_hash", "hash", "payload", *_COLUMNS)
_RECORD: Final = ", ".join(f"records.{name}" for name in _STORED)
# For verification: whoever owns the tables can let every column be NULL.
_UNTRUSTED: Final = ", ".join(
    [
        "coalesce(records.seq, 0) AS seq",
        *(f"coalesce(records.{name}, '') AS {name}" for name in ("prev_hash", "hash", "payload")),
        *(f"records.{name}" for name in _COLUMNS),
    ]
)
_CHUNK: Final = 1_000
# A record of a bulk call tells of a thousand recipients; a page full of such would not fit into memory.
_PAGE_BYTES: Final = 8 * 1024 * 1024
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
        f"SELECT {_RECORD} FROM seen_events JOIN records USING (seq, recorded_at, event_id) WHERE event_id = $1",  # noqa: S608  our own column names
        event_id,
    )
    return _record(row) if row else None


async def list_records(
    conn: Connection, wanted: EventFilter, *, after: Position | None, limit: int, up_to: int | None = None
) -> list[Record]:
    """List records behind the position where the page before ended, newest first; up to a place: oldest first.

    Of large ones fewer than `limit`; `is_full` tells whether the page ended for that reason.
    """
    sql, values = page_query(wanted, after=after, limit=limit, up_to=up_to)
    return [_record(row) for row in await conn.fetch(sql, *values)]


def is_full(records: Sequence[Record]) -> bool:
    """Tell whether a page took all the bytes it may, so that more may lie behind it."""
    return sum(len(record.payload) for record in records) >= _PAGE_BYTES


def page_query(
    wanted: EventFilter, *, after: Position | None, limit: int, up_to: int | None = None
) -> tuple[str, list[Any]]:
    """Write the query of one page, so that a test can ask Postgres how it would go about it."""
    behind, order = ("<", "DESC") if up_to is None else (">", "ASC")
    conditions, values = _where(wanted)
    if up_to is not None:
        values.append(up_to)
        conditions.append(f"seq <= ${len(values)}")
    if after is not None:
        values += [after.occurred_at, after.seq]
        conditions.append(f"(occurred_at, seq) {behind} (${len(values) - 1}, ${len(values)})")
    values.append(limit)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    in_order = f"ORDER BY occurred_at {order}, seq {order}"
    page = f"SELECT {_RECORD} FROM records {where} {in_order} LIMIT ${len(values)}"  # noqa: S608  our own column names
    before = f"sum(octet_length(payload)) OVER ({in_order} ROWS UNBOUNDED PRECEDING) - octet_length(payload)"
    sized = f"SELECT records.*, {before} AS bytes_before FROM ({page}) AS records"  # noqa: S608  as above
    return f"SELECT {_RECORD} FROM ({sized}) AS records WHERE bytes_before < {_PAGE_BYTES} {in_order}", values  # noqa: S608  as above


async def list_stretch(conn: Connection, *, first: int, last: int) -> list[Record]:
    """List the records of a stretch of the chain, in its order."""
    rows = await conn.fetch(
        f"SELECT {_RECORD} FROM records WHERE seq BETWEEN $1 AND $2 ORDER BY seq",  # noqa: S608  our own column names
        first,
        last,
    )
    return [_record(row) for row in rows]


async def stream_records(conn: Connection, first: int | None, last: int | None) -> AsyncIterator[list[Record]]:
    """Read the chain or a part of it in its order, some at a time; runs inside the caller's transaction."""
    cursor = await conn.cursor(
        f"SELECT {_UNTRUSTED} FROM records "  # noqa: S608  our own column names
        "WHERE ($1::bigint IS NULL OR records.seq >= $1) AND ($2::bigint IS NULL OR records.seq <= $2) "
        "ORDER BY records.seq, records.recorded_at",
        first,
        last,
    )
    while rows := await cursor.fetch(_CHUNK):
        yield [_record(row) for row in rows]


async def list_beside(conn: Connection, event_ids: Sequence[UUID | None]) -> list[Beside]:
    """Say where each of these events is found, and what is kept about its personal data; in the order given."""
    rows = await conn.fetch(
        """SELECT DISTINCT ON (position) seen_events.seq, seen_events.recorded_at, actor_id, subjects, wrapped_key
           FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (event_id, position)
           LEFT JOIN seen_events USING (event_id) LEFT JOIN personal_keys USING (event_id) ORDER BY position""",
        event_ids,
    )
    return [
        Beside(
            (row["seq"], row["recorded_at"]) if row["seq"] is not None else None,
            kept_key(row) if row["wrapped_key"] is not None else None,
        )
        for row in rows
    ]


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


def _where(wanted: EventFilter) -> tuple[list[str], list[Any]]:
    given = wanted.given()
    conditions = [_CONDITIONS[name].format(f"${number}") for number, name in enumerate(given, start=1)]
    return conditions, list(given.values())


def _record(row: Row) -> Record:
    return Record(row["seq"], row["prev_hash"], row["hash"], row["payload"], Columns(*(row[name] for name in _COLUMNS)))
