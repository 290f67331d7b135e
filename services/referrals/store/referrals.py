"""SQL of referrals: pages in, lists out."""

# ruff: noqa: S608  what is put into the statements is a constant list of columns

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.referrals.domain.failures import ReferralNotFound
from services.referrals.domain.referrals import PROMOTED, Referral, Rejected
from shared.db import Connection, Row

_COLUMNS: Final = ("referral_id", *PROMOTED, "created_at", "updated_at", "updated_raw")
_TYPES: Final = {"created_at": "timestamptz", "updated_at": "timestamptz", "deal_value": "numeric", "digest": "bytea"}
_SAVED: Final = (*_COLUMNS, "digest", "raw")
# One statement for a whole page, its values as one array per column: several times cheaper than a statement per row.
# `raw` is text on the way, because it is JSON already.
_SAVE: Final = f"""INSERT INTO partner_center_referrals AS known ({", ".join(_SAVED)})
    SELECT {", ".join(_COLUMNS)}, digest, raw::jsonb
    FROM unnest({", ".join(f"${n}::{_TYPES.get(name, 'text')}[]" for n, name in enumerate(_SAVED, 1))})
         AS page ({", ".join(_SAVED)})
    ON CONFLICT ON CONSTRAINT partner_center_referrals_pkey
    DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _SAVED[1:])}, synced_at = now()
    WHERE excluded.updated_at >= known.updated_at"""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list of referrals is narrowed to."""

    status: str | None = None
    substatus: str | None = None
    referral_type: str | None = None
    country: str | None = None
    updated_since: datetime | None = None
    text: str | None = None


# What lists can be sorted by: the expression, in which nothing is NULL, and its type. It goes into the cursor, so it
# is no longer than an address bears.
SORT_KEYS: Final = {
    "updated_at": ("updated_at", "timestamptz"),
    "company_name": ("left(lower(coalesce(company_name, '')), 100)", "text"),
    "status": ("lower(coalesce(status, ''))", "text"),
    "deal_value": ("coalesce(deal_value, 0)", "numeric"),
}


@dataclass(frozen=True, slots=True)
class Order:
    """By what a list is sorted; the id decides between equals."""

    by: str = "updated_at"
    descending: bool = True


async def find_referrals(conn: Connection, referral_ids: Sequence[str]) -> Mapping[str, Row]:
    """Give the stored rows of these ids; nobody changes them meanwhile, for only who holds the sync's row does."""
    # Else a plan made while the table was empty, and kept, would scan all of it for each page of the first sync.
    await conn.execute("SET LOCAL enable_seqscan = off")
    rows = await conn.fetch(
        f"""SELECT {", ".join(_COLUMNS)}, digest, missing_since FROM partner_center_referrals
            WHERE referral_id = ANY($1)""",
        referral_ids,
    )
    return {row["referral_id"]: row for row in rows}


async def find_raw(conn: Connection, referral_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give what Microsoft sent of these ids before."""
    if not referral_ids:
        return {}
    rows = await conn.fetch(
        "SELECT referral_id, raw FROM partner_center_referrals WHERE referral_id = ANY($1)", referral_ids
    )
    return {row["referral_id"]: row["raw"] for row in rows}


async def save_referrals(conn: Connection, referrals: Sequence[Referral]) -> None:
    """Insert or update; an older state never overwrites a newer one."""
    if referrals:
        await conn.execute(_SAVE, *([getattr(referral, name) for referral in referrals] for name in _SAVED))


async def insert_statuses(conn: Connection, referrals: Sequence[Referral]) -> None:
    """Add to the history of statuses; the same change is there once."""
    await conn.execute(
        """INSERT INTO referral_statuses (referral_id, status, substatus, changed_at)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
           ON CONFLICT ON CONSTRAINT referral_statuses_once DO NOTHING""",
        [referral.referral_id for referral in referrals],
        [referral.status for referral in referrals],
        [referral.substatus for referral in referrals],
        [referral.updated_at for referral in referrals],
    )


async def save_rejected(conn: Connection, task_id: UUID, page: int, item: Rejected) -> None:
    """Set a malformed item aside; the same one, which comes with every sweep, is there once and counted."""
    await conn.execute(
        """WITH known AS (
               UPDATE referrals_rejected SET times = times + 1, last_rejected_at = now()
               WHERE md5(raw) = md5($5) RETURNING 1)
           INSERT INTO referrals_rejected (task_id, page, position, reason, raw)
           SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT FROM known)""",
        task_id,
        page,
        item.position,
        item.reason,
        item.raw,
    )


async def note_seen(conn: Connection, referral_ids: Sequence[str]) -> None:
    """Take the mark off referrals that were missing and are there again."""
    await conn.execute(
        """UPDATE partner_center_referrals SET missing_since = NULL
           WHERE referral_id = ANY($1) AND missing_since IS NOT NULL""",
        referral_ids,
    )


async def insert_sightings(conn: Connection, task_id: UUID, referral_ids: Sequence[str]) -> None:
    """Note what a full sweep has seen of the referrals that were known before it."""
    if not referral_ids:
        return
    await conn.execute(
        """INSERT INTO referral_sightings (task_id, referral_id) SELECT $1, unnest($2::text[])
           ON CONFLICT ON CONSTRAINT referral_sightings_pkey DO NOTHING""",
        task_id,
        referral_ids,
    )


async def mark_missing(conn: Connection, task_id: UUID) -> int:
    """Mark what a finished sweep has not seen; gives how many. Nothing is ever deleted."""
    status = await conn.execute(
        """UPDATE partner_center_referrals AS known SET missing_since = now()
           FROM referral_syncs AS sweep
           WHERE sweep.task_id = $1 AND known.first_seen_at < sweep.requested_at AND missing_since IS NULL
             AND NOT EXISTS (
               SELECT FROM referral_sightings AS seen WHERE seen.task_id = $1
                 AND seen.referral_id = known.referral_id)""",
        task_id,
    )
    return int(status.rpartition(" ")[2])


async def delete_sightings(conn: Connection, task_id: UUID) -> None:
    """Forget what a sweep has seen, once it has ended."""
    await conn.execute("DELETE FROM referral_sightings WHERE task_id = $1", task_id)


async def list_referrals(
    conn: Connection, wanted: Filter, order: Order, *, limit: int, after: tuple[Any, str] | None
) -> list[Row]:
    """List referrals in an order; `after` is the `sort_key` and the id of the last one seen."""
    key, kind = SORT_KEYS[order.by]
    direction, further = ("DESC", "<") if order.descending else ("ASC", ">")
    pattern = f"%{_escaped(wanted.text)}%" if wanted.text else None
    return await conn.fetch(
        f"""SELECT {", ".join(_COLUMNS)}, first_seen_at, synced_at, missing_since, {key} AS sort_key
            FROM partner_center_referrals
            WHERE ($1::text IS NULL OR lower(status) = lower($1))
              AND ($2::text IS NULL OR lower(substatus) = lower($2))
              AND ($3::text IS NULL OR lower(referral_type) = lower($3))
              AND ($4::text IS NULL OR upper(country) = upper($4))
              AND ($5::timestamptz IS NULL OR updated_at >= $5)
              AND ($6::text IS NULL OR company_name ILIKE $6 OR name ILIKE $6 OR domain ILIKE $6
                   OR referral_id ILIKE $6)
              AND ($7::{kind} IS NULL OR ({key}, referral_id) {further} ($7, $8))
            ORDER BY {key} {direction}, referral_id {direction} LIMIT $9""",
        wanted.status,
        wanted.substatus,
        wanted.referral_type,
        wanted.country,
        wanted.updated_since,
        pattern,
        after[0] if after else None,
        after[1] if after else None,
        limit,
    )


async def get_referral(conn: Connection, referral_id: str) -> Row:
    """Give one referral whole."""
    row = await conn.fetchrow(
        f"""SELECT {", ".join(_COLUMNS)}, first_seen_at, synced_at, missing_since, raw FROM partner_center_referrals
            WHERE referral_id = $1""",
        referral_id,
    )
    if row is None:
        raise ReferralNotFound
    return row


async def list_statuses(conn: Connection, referral_id: str) -> list[Row]:
    """Give the history of a referral's statuses, oldest first."""
    return await conn.fetch(
        """SELECT status, substatus, changed_at, recorded_at FROM referral_statuses
           WHERE referral_id = $1 ORDER BY changed_at, recorded_at""",
        referral_id,
    )


def changes_between(row: Row, referral: Referral) -> dict[str, tuple[Any, Any]]:
    """Say which promoted fields a newer state changes."""
    return {
        field: (row[field], getattr(referral, field)) for field in PROMOTED if row[field] != getattr(referral, field)
    }


def _escaped(text: str) -> str:
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return text
