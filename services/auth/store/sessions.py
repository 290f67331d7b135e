"""Sessions and refresh tokens."""

# ruff: noqa: S608  what is put into the statements is a constant list of columns

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from services.auth.domain.sessions import Session
from shared.db import Connection, Row

_COLUMNS: Final = (
    "id, account_id, created_at, used_at, expires_at, ended_at, ip, user_agent, with_second_factor, sealed_secret"
)


def _session(row: Row) -> Session:
    return Session(**dict(row))


async def insert_session(conn: Connection, session: Session) -> None:
    """Begin a session."""
    await conn.execute(
        """INSERT INTO sessions (id, account_id, created_at, used_at, expires_at, ip, user_agent, with_second_factor,
               sealed_secret)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        session.id,
        session.account_id,
        session.created_at,
        session.used_at,
        session.expires_at,
        session.ip,
        session.user_agent,
        session.with_second_factor,
        session.sealed_secret,
    )


async def find_session(conn: Connection, session_id: UUID) -> Session | None:
    """Give a session."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM sessions WHERE id = $1", session_id)
    return _session(row) if row else None


async def find_session_of_token(conn: Connection, token_hash: bytes) -> Session | None:
    """Give the session to which a refresh token belongs."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM sessions WHERE id = (SELECT session_id FROM refresh_tokens WHERE token_hash = $1)",
        token_hash,
    )
    return _session(row) if row else None


async def lock_session(conn: Connection, session_id: UUID) -> Session:
    """Give a session that exists and let nobody else use it until the transaction ends."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM sessions WHERE id = $1 FOR NO KEY UPDATE", session_id)
    if row is None:
        raise LookupError(session_id)
    return _session(row)


async def list_sessions(conn: Connection, account_id: int) -> list[Session]:
    """Give the sessions of an account that nobody ended, newest first."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM sessions WHERE account_id = $1 AND ended_at IS NULL ORDER BY created_at DESC, id",
        account_id,
    )
    return [_session(row) for row in rows]


async def save_session_used(conn: Connection, session_id: UUID, now: datetime) -> None:
    """Note that a session was used."""
    await conn.execute("UPDATE sessions SET used_at = $2 WHERE id = $1", session_id, now)


async def save_session_with_second_factor(conn: Connection, session_id: UUID) -> None:
    """Note that the second factor was shown in this session."""
    await conn.execute("UPDATE sessions SET with_second_factor = true WHERE id = $1", session_id)


async def end_sessions(
    conn: Connection, account_id: int, *, reason: str, now: datetime, only: UUID | None = None, but: UUID | None = None
) -> list[UUID]:
    """End sessions of an account; gives those that were live."""
    rows = await conn.fetch(
        """UPDATE sessions SET ended_at = $2, end_reason = $3
           WHERE account_id = $1 AND ended_at IS NULL AND expires_at > $2
             AND ($4::uuid IS NULL OR id = $4) AND ($5::uuid IS NULL OR id <> $5)
           RETURNING id""",
        account_id,
        now,
        reason,
        only,
        but,
    )
    return [row["id"] for row in rows]


async def insert_refresh_token(conn: Connection, token_hash: bytes, session_id: UUID, now: datetime) -> None:
    """Keep a refresh token by its hash."""
    await conn.execute(
        "INSERT INTO refresh_tokens (token_hash, session_id, created_at) VALUES ($1, $2, $3)",
        token_hash,
        session_id,
        now,
    )


async def spent_at(conn: Connection, token_hash: bytes) -> datetime | None:
    """Say when a refresh token was spent, if it was."""
    moment: datetime | None = await conn.fetchval(
        "SELECT spent_at FROM refresh_tokens WHERE token_hash = $1", token_hash
    )
    return moment


async def save_spent(conn: Connection, token_hash: bytes, now: datetime) -> None:
    """Spend a refresh token."""
    await conn.execute("UPDATE refresh_tokens SET spent_at = $2 WHERE token_hash = $1", token_hash, now)


async def delete_old_sessions(conn: Connection, expired_before: datetime) -> None:
    """Forget sessions that are long over, with their refresh tokens."""
    await conn.execute("DELETE FROM sessions WHERE expires_at < $1", expired_before)
