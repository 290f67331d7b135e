"""Failures in a row, per kind and subject."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Literal

from services.auth.domain.lockout import Throttle
from shared.db import Connection

Kind = Literal["sign-in", "reset"]


def _subject(email: str) -> bytes:
    return hashlib.sha256(email.encode()).digest()


async def lock_throttle(conn: Connection, kind: Kind, email: str) -> Throttle:
    """Give the failures of an address, known or not, and let no other guess in until the transaction ends."""
    row = await conn.fetchrow(
        """INSERT INTO throttles AS known (kind, subject) VALUES ($1, $2)
           ON CONFLICT ON CONSTRAINT throttles_pkey DO UPDATE SET failures = known.failures
           RETURNING failures, failed_at, paused_until""",
        kind,
        _subject(email),
    )
    return Throttle(*row) if row else Throttle()


async def save_throttle(conn: Connection, kind: Kind, email: str, throttle: Throttle) -> None:
    """Keep the failures of an address."""
    await conn.execute(
        "UPDATE throttles SET failures = $3, failed_at = $4, paused_until = $5 WHERE kind = $1 AND subject = $2",
        kind,
        _subject(email),
        throttle.failures,
        throttle.failed_at,
        throttle.paused_until,
    )


async def delete_throttle(conn: Connection, kind: Kind, email: str) -> None:
    """Forget the failures of an address."""
    await conn.execute("DELETE FROM throttles WHERE kind = $1 AND subject = $2", kind, _subject(email))


async def delete_old_throttles(conn: Connection, failed_before: datetime) -> None:
    """Forget failures that no rule looks at any more."""
    await conn.execute("DELETE FROM throttles WHERE failed_at IS NULL OR failed_at < $1", failed_before)
