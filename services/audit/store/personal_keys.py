"""The keys of personal data, beside the chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from services.audit.domain.chain import Record
from services.audit.domain.personal import KeptKey, SealedPersonal
from shared.db import Connection, Row

_LONG_SECONDS: Final = 3_600.0


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


async def list_personal_keys(conn: Connection, event_ids: Sequence[UUID]) -> dict[UUID, KeptKey]:
    """Give what is kept about these records' personal data."""
    rows = await conn.fetch(
        "SELECT event_id, actor_id, subjects, wrapped_key FROM personal_keys WHERE event_id = ANY($1::uuid[])",
        event_ids,
    )
    return {row["event_id"]: kept_key(row) for row in rows}


async def delete_personal_keys(
    conn: Connection, digests: Sequence[bytes], actor_id: int | None
) -> list[tuple[UUID, datetime]]:
    """Throw away the keys of every record that names these phones or e-mails, or of what an account did."""
    rows = await conn.fetch(
        """DELETE FROM personal_keys WHERE (subjects && $1::bytea[] AND subjects <> '{}') OR actor_id = $2
           RETURNING event_id, recorded_at""",
        digests,
        actor_id,
    )
    return [(row["event_id"], row["recorded_at"]) for row in rows]


async def insert_erased_keys(conn: Connection, marks: Iterable[tuple[UUID, datetime, bytes]]) -> None:
    """Put a mark in the place of each key that was thrown away: event, time of recording, mark."""
    await conn.copy_records_to_table(
        "personal_keys",
        records=[(event_id, recorded_at, [], mark) for event_id, recorded_at, mark in marks],
        columns=["event_id", "recorded_at", "subjects", "wrapped_key"],
    )


async def delete_personal_keys_before(conn: Connection, moment: datetime) -> None:
    """Throw away the keys of what was recorded before a moment; only the owner of the tables can do it in this way."""
    # Months of keys are more than the time of one ordinary statement allows for.
    await conn.execute("SET LOCAL statement_timeout = 0")
    await conn.execute("DELETE FROM personal_keys WHERE recorded_at < $1", moment, timeout=_LONG_SECONDS)


def kept_key(row: Row) -> KeptKey:
    """Read what is kept about the personal data of one record."""
    return KeptKey(row["actor_id"], row["subjects"], row["wrapped_key"])
