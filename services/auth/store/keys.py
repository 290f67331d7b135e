"""Signing keys."""

from __future__ import annotations

from datetime import datetime

from services.auth.domain.keys import StoredKey
from shared.db import Connection


async def list_keys(conn: Connection) -> list[StoredKey]:
    """Give every key, oldest first."""
    rows = await conn.fetch(
        "SELECT kid, public, sealed_private, signs_from, ends_at FROM signing_keys ORDER BY signs_from, kid"
    )
    return [StoredKey(**dict(row)) for row in rows]


async def lock_keys(conn: Connection) -> None:
    """Let nobody else add keys until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('signing_keys ' || current_schema(), 0))")


async def insert_key(conn: Connection, key: StoredKey) -> None:
    """Add a key."""
    await conn.execute(
        "INSERT INTO signing_keys (kid, public, sealed_private, signs_from, ends_at) VALUES ($1, $2, $3, $4, $5)",
        key.kid,
        key.public,
        key.sealed_private,
        key.signs_from,
        key.ends_at,
    )


async def save_ends(conn: Connection, ends_at: datetime, *, but: str) -> None:
    """Give every other key that has no end yet its end."""
    await conn.execute("UPDATE signing_keys SET ends_at = $1 WHERE kid <> $2 AND ends_at IS NULL", ends_at, but)


async def save_end(conn: Connection, kid: str, ends_at: datetime) -> bool:
    """Disable one key; says whether it exists."""
    return await conn.execute("UPDATE signing_keys SET ends_at = $2 WHERE kid = $1", kid, ends_at) == "UPDATE 1"


async def save_sealed(conn: Connection, kid: str, sealed_private: bytes) -> None:
    """Keep a private key under a newer seal."""
    await conn.execute("UPDATE signing_keys SET sealed_private = $2 WHERE kid = $1", kid, sealed_private)
