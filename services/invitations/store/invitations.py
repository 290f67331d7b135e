"""Invitations, and the farmers who want none."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from services.invitations.domain.invitations import InvitationUnknown, LinkUnknown, Status
from shared.db import Connection, Row


class NewInvitation(NamedTuple):
    """An invitation as it is stored; the order is that of the columns in `insert_invitations`."""

    id: int
    job_id: int
    row_no: int
    sponsor_id: int
    phone: str
    farmer_name: str
    email: str | None
    notes: str | None
    tier: str
    code_count: int
    token_hash: bytes
    token_sealed: bytes
    expires_at: datetime


async def draw_ids(conn: Connection, number: int) -> list[int]:
    """Draw ids for new invitations, so that tokens can be sealed and messages named before anything is stored."""
    rows = await conn.fetch("SELECT nextval('invitations_id_seq') AS id FROM generate_series(1, $1)", number)
    return sorted(row["id"] for row in rows)


async def insert_invitations(conn: Connection, invitations: Sequence[NewInvitation]) -> None:
    """Store new invitations."""
    await conn.copy_records_to_table("invitations", columns=NewInvitation._fields, records=invitations)


async def list_invited(conn: Connection, sponsor_id: int, phones: Sequence[str]) -> set[str]:
    """Find those of the phones that have an open invitation of this sponsor."""
    rows = await conn.fetch(
        "SELECT phone FROM invitations WHERE sponsor_id = $1 AND phone = ANY ($2) AND status = 'Pending'",
        sponsor_id,
        phones,
    )
    return {row["phone"] for row in rows}


async def hold_opt_outs(conn: Connection) -> None:
    """Keep the opt-outs as they are until the transaction ends: who invites must not overlook one that comes meanwhile.

    Many may invite at once; a farmer who opts out waits for them, and then finds the invitations that they have made.
    """
    await conn.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended('opt_outs ' || current_schema(), 0))")


async def list_opted_out(conn: Connection, phones: Sequence[str]) -> set[str]:
    """Find those of the phones whose owners want no messages."""
    hashes = {_phone_hash(phone): phone for phone in phones}
    rows = await conn.fetch("SELECT phone_hash FROM opt_outs WHERE phone_hash = ANY ($1)", list(hashes))
    return {hashes[row["phone_hash"]] for row in rows}


async def insert_opt_out(conn: Connection, phone: str) -> bool:
    """Note that a farmer wants no messages; False when that was known."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('opt_outs ' || current_schema(), 0))")
    status = await conn.execute(
        "INSERT INTO opt_outs (phone_hash) VALUES ($1) ON CONFLICT DO NOTHING", _phone_hash(phone)
    )
    return not status.endswith(" 0")


async def lock_invitation(conn: Connection, invitation_id: int) -> Row:
    """Give an invitation and hold it until the transaction ends; raises InvitationUnknown."""
    row = await conn.fetchrow("SELECT * FROM invitations WHERE id = $1 FOR NO KEY UPDATE", invitation_id)
    if row is None:
        raise InvitationUnknown
    return row


async def get_by_token(conn: Connection, token_hash: bytes, *, lock: bool = False) -> Row:
    """Give the invitation that a link belongs to, with its sponsor's name; raises LinkUnknown."""
    if lock:
        await conn.execute("SELECT 1 FROM invitations WHERE token_hash = $1 FOR NO KEY UPDATE", token_hash)
    row = await conn.fetchrow(
        """SELECT i.*, a.full_name AS sponsor_name, jobs.channel FROM invitations AS i
             JOIN accounts AS a ON a.id = i.sponsor_id JOIN jobs ON jobs.id = i.job_id
            WHERE i.token_hash = $1""",
        token_hash,
    )
    if row is None:
        raise LinkUnknown
    return row


async def close_invitations(conn: Connection, invitation_ids: Sequence[int], status: Status, reason: str) -> list[Row]:
    """End open invitations; gives those that were open."""
    return await conn.fetch(
        """UPDATE invitations SET status = $2, closed_reason = $3, closed_at = now()
            WHERE id = ANY ($1) AND status = 'Pending' RETURNING id, sponsor_id, job_id, row_no, phone""",
        invitation_ids,
        status,
        reason,
    )


async def list_overdue(conn: Connection, limit: int) -> list[int]:
    """Take open invitations whose time is over; another sweeper takes others."""
    rows = await conn.fetch(
        """SELECT id FROM invitations WHERE status = 'Pending' AND expires_at <= now()
            ORDER BY expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED""",
        limit,
    )
    return [row["id"] for row in rows]


async def list_open_of(conn: Connection, phone: str) -> list[int]:
    """Find every open invitation of a farmer, whoever sent it, and hold them."""
    rows = await conn.fetch(
        "SELECT id FROM invitations WHERE phone = $1 AND status = 'Pending' ORDER BY id FOR NO KEY UPDATE", phone
    )
    return [row["id"] for row in rows]


async def find_invitation(conn: Connection, invitation_id: int) -> Row | None:
    """Look an invitation up, with its job's channel and its last message."""
    return await conn.fetchrow(f"{_LISTED} WHERE i.id = $1", invitation_id)


async def list_invitations(
    conn: Connection,
    *,
    sponsor_id: int | None,
    status: Status | None,
    phone: str | None,
    job_id: int | None,
    before_id: int | None,
    limit: int,
) -> list[Row]:
    """List invitations, the newest first."""
    return await conn.fetch(
        f"""{_LISTED}
            WHERE ($1::bigint IS NULL OR i.sponsor_id = $1) AND ($2::text IS NULL OR i.status = $2)
              AND ($3::text IS NULL OR i.phone = $3) AND ($4::bigint IS NULL OR i.job_id = $4)
              AND ($5::bigint IS NULL OR i.id < $5)
            ORDER BY i.id DESC LIMIT $6""",
        sponsor_id,
        status,
        phone,
        job_id,
        before_id,
        limit,
    )


_LISTED = """SELECT i.*, jobs.channel, jobs.consent_evidence, jobs.is_commercial,
                      last.state AS delivery_state, last.updated_at AS delivery_updated_at
               FROM invitations AS i JOIN jobs ON jobs.id = i.job_id
               LEFT JOIN LATERAL (SELECT state, updated_at FROM deliveries WHERE invitation_id = i.id
                                   ORDER BY ordinal DESC LIMIT 1) AS last ON true"""


def _phone_hash(phone: str) -> bytes:
    return hashlib.sha256(phone.encode()).digest()


async def lock_sealed(conn: Connection, after: int, limit: int) -> list[Row]:
    """Give a page of sealed tokens, by id."""
    return await conn.fetch(
        "SELECT id, token_sealed FROM invitations WHERE id > $1 ORDER BY id LIMIT $2 FOR NO KEY UPDATE", after, limit
    )


async def save_sealed(conn: Connection, resealed: Sequence[tuple[int, bytes]]) -> None:
    """Save tokens that were sealed anew."""
    await conn.execute(
        """UPDATE invitations SET token_sealed = new.sealed
             FROM unnest($1::bigint[], $2::bytea[]) AS new (id, sealed) WHERE invitations.id = new.id""",
        [invitation_id for invitation_id, _ in resealed],
        [sealed for _, sealed in resealed],
    )
