"""SQL of the stored sign-in: one row, or none."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from services.referrals.domain.sign_ins import Account, Condition, StoredSignIn
from shared.db import Connection, Row

# What the sealed token cache is bound to: moved into another row, it would not open.
BINDING: Final = "partner_center_connections/1"
_SELECT: Final = """SELECT home_account_id, username, tenant_id, sealed_cache, version, connected_at, refreshed_at,
    token_expires_at, refused_because, reported FROM partner_center_connections WHERE id = 1"""


async def find_connection(conn: Connection) -> StoredSignIn | None:
    """Give the stored sign-in."""
    row = await conn.fetchrow(_SELECT)
    return _stored(row) if row else None


async def lock_connection(conn: Connection) -> StoredSignIn | None:
    """Give the stored sign-in, locked until the transaction ends: one renewal for any number of replicas."""
    row = await conn.fetchrow(f"{_SELECT} FOR UPDATE")
    return _stored(row) if row else None


async def insert_connection(
    conn: Connection, account: Account, *, sealed_cache: bytes, token_expires_at: datetime
) -> None:
    """Store a new sign-in in place of whatever was there."""
    await conn.execute(
        """INSERT INTO partner_center_connections AS stored
               (id, home_account_id, username, tenant_id, sealed_cache, token_expires_at)
           VALUES (1, $1, $2, $3, $4, $5)
           ON CONFLICT ON CONSTRAINT partner_center_connections_pkey DO UPDATE SET
               home_account_id = $1, username = $2, tenant_id = $3, sealed_cache = $4, token_expires_at = $5,
               version = stored.version + 1, connected_at = now(), refreshed_at = now(), refused_because = NULL,
               reported = 'healthy'""",
        account.home_account_id,
        account.username,
        account.tenant_id,
        sealed_cache,
        token_expires_at,
    )


async def save_renewal(conn: Connection, sealed_cache: bytes, token_expires_at: datetime) -> None:
    """Store the token cache after a renewal."""
    await conn.execute(
        """UPDATE partner_center_connections
           SET sealed_cache = $1, token_expires_at = $2, refreshed_at = now(), version = version + 1,
               reported = 'healthy'
           WHERE id = 1""",
        sealed_cache,
        token_expires_at,
    )


async def save_sealed_cache(conn: Connection, sealed_cache: bytes) -> None:
    """Store the same token cache sealed with another key."""
    await conn.execute(
        "UPDATE partner_center_connections SET sealed_cache = $1, version = version + 1 WHERE id = 1", sealed_cache
    )


async def save_condition(conn: Connection, reported: Condition, *, refused_because: str | None) -> None:
    """Note what was reported, and why Microsoft no longer takes the sign-in."""
    await conn.execute(
        "UPDATE partner_center_connections SET reported = $1, refused_because = $2 WHERE id = 1",
        reported,
        refused_because,
    )


async def delete_connection(conn: Connection) -> bool:
    """Forget the stored sign-in; waits for a renewal that is under way, and none can bring it back."""
    deleted = await conn.fetchval("DELETE FROM partner_center_connections WHERE id = 1 RETURNING true")
    return bool(deleted)


def _stored(row: Row) -> StoredSignIn:
    return StoredSignIn(
        account=Account(row["home_account_id"], row["username"], row["tenant_id"]),
        sealed_cache=row["sealed_cache"],
        version=row["version"],
        connected_at=row["connected_at"],
        refreshed_at=row["refreshed_at"],
        token_expires_at=row["token_expires_at"],
        refused_because=row["refused_because"],
        reported=Condition(row["reported"]),
    )
