"""Passwords, reset tokens and second factors of accounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from shared.db import Connection


async def save_password(conn: Connection, account_id: int, password_hash: str, now: datetime) -> None:
    """Set a new password: a new credential epoch begins and the reset token is spent, together."""
    await conn.execute(
        """UPDATE adminuser SET password_hash = $2, credential_epoch = credential_epoch + 1,
               password_reset_token = NULL, password_reset_expires_at = NULL, password_reset_delivered_at = $3,
               updated_at = $3
           WHERE id = $1""",
        account_id,
        password_hash,
        now,
    )


async def save_rehash(conn: Connection, account_id: int, password_hash: str, *, epoch: int) -> None:
    """Keep the same password of this credential epoch under today's parameters."""
    await conn.execute(
        "UPDATE adminuser SET password_hash = $2 WHERE id = $1 AND credential_epoch = $3",
        account_id,
        password_hash,
        epoch,
    )


async def save_signed_in(conn: Connection, account_id: int, now: datetime) -> None:
    """Note the last sign-in."""
    await conn.execute("UPDATE adminuser SET signed_in_at = $2 WHERE id = $1", account_id, now)


async def save_reset_token(
    conn: Connection, account_id: int, token_hash: str, *, requested_at: datetime, expires_at: datetime
) -> None:
    """Make this the one live reset token."""
    await conn.execute(
        """UPDATE adminuser SET password_reset_token = $2, password_reset_expires_at = $3,
               password_reset_requested_at = $4, password_reset_delivered_at = NULL
           WHERE id = $1""",
        account_id,
        token_hash,
        expires_at,
        requested_at,
    )


async def delete_reset_token(conn: Connection, account_id: int) -> None:
    """Leave the account without a live reset token."""
    await conn.execute("UPDATE adminuser SET password_reset_token = NULL WHERE id = $1", account_id)


async def save_reset_delivered(conn: Connection, account_id: int, requested_at: datetime, now: datetime) -> None:
    """Note that the token made for this request was handed over."""
    await conn.execute(
        """UPDATE adminuser SET password_reset_delivered_at = $3
           WHERE id = $1 AND password_reset_requested_at = $2""",
        account_id,
        requested_at,
        now,
    )


@dataclass(frozen=True, slots=True)
class StoredSeed:
    """The seed of an authenticator app, sealed, and the last time step used."""

    sealed: bytes
    last_step: int | None


async def find_seed(conn: Connection, account_id: int) -> StoredSeed | None:
    """Give the seed of an account that has one."""
    row = await conn.fetchrow(
        "SELECT totp_sealed, totp_last_step FROM adminuser WHERE id = $1 AND totp_sealed IS NOT NULL", account_id
    )
    return StoredSeed(*row) if row else None


async def lock_seeds(conn: Connection) -> list[tuple[int, bytes]]:
    """Give every sealed seed with its account."""
    rows = await conn.fetch(
        "SELECT id, totp_sealed FROM adminuser WHERE totp_sealed IS NOT NULL ORDER BY id FOR NO KEY UPDATE"
    )
    return [(row["id"], row["totp_sealed"]) for row in rows]


async def save_sealed_seed(conn: Connection, account_id: int, sealed: bytes) -> None:
    """Keep a seed that was sealed anew; everything about it stays as it is."""
    await conn.execute("UPDATE adminuser SET totp_sealed = $2 WHERE id = $1", account_id, sealed)


async def save_seed(conn: Connection, account_id: int, sealed: bytes) -> None:
    """Keep a seed that waits for its first code."""
    await conn.execute(
        "UPDATE adminuser SET totp_sealed = $2, totp_confirmed_at = NULL, totp_last_step = NULL WHERE id = $1",
        account_id,
        sealed,
    )


async def save_step(conn: Connection, account_id: int, step: int, now: datetime) -> None:
    """Note the step whose code was used, and that the seed works."""
    await conn.execute(
        """UPDATE adminuser SET totp_last_step = $2, totp_confirmed_at = coalesce(totp_confirmed_at, $3)
           WHERE id = $1""",
        account_id,
        step,
        now,
    )


async def delete_second_factor(conn: Connection, account_id: int, now: datetime) -> None:
    """Forget the seed and the recovery codes."""
    await conn.execute("DELETE FROM recovery_codes WHERE account_id = $1", account_id)
    await conn.execute(
        """UPDATE adminuser SET totp_sealed = NULL, totp_confirmed_at = NULL, totp_last_step = NULL, updated_at = $2
           WHERE id = $1""",
        account_id,
        now,
    )


async def save_recovery_codes(conn: Connection, account_id: int, code_hashes: list[bytes]) -> None:
    """Replace the recovery codes."""
    await conn.execute("DELETE FROM recovery_codes WHERE account_id = $1", account_id)
    await conn.execute(
        "INSERT INTO recovery_codes (account_id, code_hash) SELECT $1, unnest($2::bytea[])", account_id, code_hashes
    )


async def delete_recovery_code(conn: Connection, account_id: int, code_hash: bytes) -> bool:
    """Spend a recovery code; says whether it was there."""
    done = await conn.execute(
        "DELETE FROM recovery_codes WHERE account_id = $1 AND code_hash = $2", account_id, code_hash
    )
    return done == "DELETE 1"
