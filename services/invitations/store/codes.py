"""The stock of codes and who holds them."""

from collections.abc import Sequence
from datetime import datetime

from services.invitations.domain.codes import NEVER, Stock, Tier
from shared.db import Connection, violations
from shared.errors import Conflict


class CodeKnown(Conflict):
    """A given code is in somebody's stock already."""

    code = "CODE_ALREADY_KNOWN"
    message = "Bu kodlardan en az biri zaten kayıtlı"


class StockMovedError(RuntimeError):
    """Codes that were counted under the sponsor's lock are gone: somebody gave out codes without holding it."""


async def insert_codes(
    conn: Connection, sponsor_id: int, tier: Tier, codes: Sequence[str], *, expires_at: datetime | None, added_by: int
) -> None:
    """Put codes into a sponsor's stock; raises CodeKnown and adds none if one exists."""
    with violations({"codes_code_once": CodeKnown}):
        await conn.execute(
            """INSERT INTO codes (sponsor_id, tier, code, expires_at, added_by)
               SELECT $1, $2, code, $4, $5 FROM unnest($3::text[]) AS code""",
            sponsor_id,
            tier,
            codes,
            expires_at or NEVER,
            added_by,
        )


async def count_available(conn: Connection, sponsor_id: int, up_to: int) -> dict[Tier, int]:
    """Count the codes that can be given out now, per tier, no further than anybody asks for."""
    rows = await conn.fetch(
        """SELECT tier, (SELECT count(*) FROM (
                      SELECT FROM codes WHERE sponsor_id = $1 AND codes.tier = tiers.tier AND state = 'available'
                         AND expires_at > now() LIMIT $3) AS found) AS available
             FROM unnest($2::text[]) AS tiers (tier)""",
        sponsor_id,
        list(Tier),
        up_to,
    )
    return {Tier(row["tier"]): row["available"] for row in rows}


async def reserve_codes(conn: Connection, sponsor_id: int, wants: Sequence[tuple[int, Tier, int]]) -> None:
    """Reserve codes for many invitations in one statement: (invitation, tier, quantity) each.

    The caller holds the sponsor's lock and has counted. The codes that expire first go first. That no code is held
    twice is the primary key of invitation_codes, whatever this statement does.
    """
    reserved = await conn.fetchval(
        """WITH wanted AS (
               SELECT * FROM unnest($2::bigint[], $3::text[], $4::int[]) WITH ORDINALITY
                          AS w (invitation_id, tier, quantity, place)
           ), slots AS (
               SELECT invitation_id, tier, row_number() OVER (PARTITION BY tier ORDER BY place) AS number
                 FROM wanted, generate_series(1, quantity)
           ), free AS MATERIALIZED (
               SELECT picked.id, needed.tier,
                      row_number() OVER (PARTITION BY needed.tier ORDER BY picked.expires_at, picked.id) AS number
                 FROM (SELECT tier, sum(quantity) AS total FROM wanted GROUP BY tier) AS needed
                CROSS JOIN LATERAL (
                      SELECT id, expires_at FROM codes
                       WHERE sponsor_id = $1 AND codes.tier = needed.tier AND state = 'available' AND expires_at > now()
                       ORDER BY expires_at, id LIMIT needed.total) AS picked
           ), held AS (
               UPDATE codes SET state = 'reserved' FROM free JOIN slots USING (tier, number)
                WHERE codes.id = free.id AND codes.state = 'available' RETURNING codes.id, slots.invitation_id
           ), linked AS (
               INSERT INTO invitation_codes (code_id, invitation_id) SELECT id, invitation_id FROM held RETURNING 1
           )
           SELECT count(*) FROM linked""",
        sponsor_id,
        [want[0] for want in wants],
        [want[1] for want in wants],
        [want[2] for want in wants],
    )
    if reserved != sum(want[2] for want in wants):
        raise StockMovedError


async def release_codes(conn: Connection, invitation_ids: Sequence[int]) -> int:
    """Give back what these invitations hold; gives the number of codes."""
    status = await conn.execute(
        """WITH freed AS (DELETE FROM invitation_codes WHERE invitation_id = ANY ($1) RETURNING code_id)
           UPDATE codes SET state = 'available' FROM freed
            WHERE codes.id = freed.code_id AND codes.state = 'reserved'""",
        invitation_ids,
    )
    return int(status.rpartition(" ")[2])


async def spend_codes(conn: Connection, invitation_id: int) -> list[str]:
    """Spend what an invitation holds; gives the codes."""
    rows = await conn.fetch(
        """UPDATE codes SET state = 'spent' FROM invitation_codes AS held
            WHERE held.invitation_id = $1 AND codes.id = held.code_id AND codes.state = 'reserved'
        RETURNING codes.code""",
        invitation_id,
    )
    return sorted(row["code"] for row in rows)


async def list_stock(conn: Connection, sponsor_id: int) -> list[Stock]:
    """Count a sponsor's codes per tier by what became of them."""
    rows = await conn.fetch(
        """SELECT tiers.tier,
                  count(*) FILTER (WHERE state = 'available' AND expires_at > now()) AS available,
                  count(*) FILTER (WHERE state = 'reserved') AS reserved,
                  count(*) FILTER (WHERE state = 'spent') AS spent,
                  count(*) FILTER (WHERE state = 'available' AND expires_at <= now()) AS expired
             FROM unnest($2::text[]) WITH ORDINALITY AS tiers (tier, place)
             LEFT JOIN codes ON codes.sponsor_id = $1 AND codes.tier = tiers.tier
            GROUP BY tiers.tier, tiers.place ORDER BY tiers.place""",
        sponsor_id,
        list(Tier),
    )
    return [Stock(Tier(row["tier"]), row["available"], row["reserved"], row["spent"], row["expired"]) for row in rows]
