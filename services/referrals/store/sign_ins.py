"""SQL of sign-ins at Microsoft."""

# ruff: noqa: S608  what is put into the statements is a constant list of columns

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from services.referrals.domain.failures import SignInNotFound
from services.referrals.domain.sign_ins import SignInState
from shared.db import Connection, Row
from shared.events.audit import Actor

_COLUMNS: Final = """sign_in_id, state, asked_by, sealed_flow, verification_uri, interval_seconds, expires_at, account,
    error_code, error, created_at, finished_at"""
# Longer than all the waits of one poll.
_POLL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that somebody asked for; the flow (with the device code) is sealed and goes when it ends."""

    sign_in_id: UUID
    state: SignInState
    asked_by: Actor
    sealed_flow: bytes | None = field(repr=False)
    verification_uri: str
    interval_seconds: float
    expires_at: datetime
    account: str | None
    error_code: str | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


async def insert_sign_in(
    conn: Connection,
    sign_in_id: UUID,
    asked_by: Actor,
    *,
    sealed_flow: bytes,
    verification_uri: str,
    interval_seconds: float,
    expires_at: datetime,
) -> None:
    """Note a sign-in that has begun."""
    await conn.execute(
        """INSERT INTO sign_ins
               (sign_in_id, asked_by, sealed_flow, verification_uri, interval_seconds, expires_at, next_poll_at)
           VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $5))""",
        sign_in_id,
        asked_by.model_dump(),
        sealed_flow,
        verification_uri,
        interval_seconds,
        expires_at,
    )


async def get_sign_in(conn: Connection, sign_in_id: UUID) -> SignIn:
    """Give a sign-in."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM sign_ins WHERE sign_in_id = $1", sign_in_id)
    if row is None:
        raise SignInNotFound
    return _sign_in(row)


async def take_due_sign_in(conn: Connection) -> SignIn | None:
    """Claim one sign-in that may be polled now; no other process gets it before this one is done, or has died.

    Else, while Microsoft's answer to this one is slow, another would hear that the code is used, and end the sign-in.
    """
    row = await conn.fetchrow(
        f"""UPDATE sign_ins SET next_poll_at = now() + make_interval(secs => $1)
            WHERE sign_in_id = (
                SELECT sign_in_id FROM sign_ins WHERE state = 'pending' AND next_poll_at <= now()
                ORDER BY next_poll_at LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING {_COLUMNS}""",
        _POLL_SECONDS,
    )
    return _sign_in(row) if row else None


async def postpone_sign_in(conn: Connection, sign_in_id: UUID, *, sealed_flow: bytes, interval_seconds: float) -> None:
    """Give a sign-in that was polled back until its interval is over; Microsoft may have asked for a slower pace."""
    await conn.execute(
        """UPDATE sign_ins SET sealed_flow = $2, interval_seconds = $3, next_poll_at = now() + make_interval(secs => $3)
           WHERE sign_in_id = $1 AND state = 'pending'""",
        sign_in_id,
        sealed_flow,
        interval_seconds,
    )


async def finish_sign_in(
    conn: Connection,
    sign_in_id: UUID,
    state: SignInState,
    *,
    account: str | None = None,
    error_code: str | None = None,
    error: str | None = None,
) -> bool:
    """End a sign-in and forget its device code; False when it had ended already."""
    ended = await conn.fetchval(
        """UPDATE sign_ins SET state = $2, account = $3, error_code = $4, error = $5, sealed_flow = NULL,
               finished_at = now()
           WHERE sign_in_id = $1 AND state = 'pending' RETURNING true""",
        sign_in_id,
        state,
        account,
        error_code,
        error,
    )
    return bool(ended)


def _sign_in(row: Row) -> SignIn:
    values = {**row, "state": SignInState(row["state"]), "asked_by": Actor.model_validate(row["asked_by"])}
    return SignIn(**values)
