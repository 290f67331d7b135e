"""Sessions and their refresh tokens.

A refresh token's successor is derived from it and the session's sealed secret, not drawn: whoever repeats a refresh
within the grace (lost answer, two tabs, twenty parallel calls) gets the same successor. So a session has one line of
tokens that never forks, nobody honest is thrown out, and a stolen token still shows itself later (RFC 9700 §4.14.2).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session may last and lie idle (NIST SP 800-63B-4 AAL2: 24 h, 1 h), and the grace of a refresh."""

    lifetime: timedelta = timedelta(hours=24)
    idle: timedelta = timedelta(hours=1)
    grace: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in device."""

    id: UUID
    account_id: int
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ip: str | None
    user_agent: str | None
    with_second_factor: bool
    sealed_secret: bytes

    @property
    def bound_to(self) -> str:
        """Name the row for the seal."""
        return f"sessions/{self.id}"

    def is_live(self, now: datetime, limits: SessionLimits) -> bool:
        """Say whether the session goes on."""
        return self.ended_at is None and now < self.expires_at and now - self.used_at < limits.idle


def new_secret() -> bytes:
    """Make the secret from which a session's refresh tokens follow."""
    return secrets.token_bytes(_BYTES)


def new_refresh_token() -> str:
    """Make the first refresh token of a session: 256 bits, opaque."""
    return secrets.token_urlsafe(_BYTES)


def successor(refresh_token: str, secret: bytes) -> str:
    """Give the one token that follows this one."""
    digest = hmac.digest(secret, refresh_token.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def refresh_token_hash(refresh_token: str) -> bytes:
    """Give the form in which the database knows a refresh token."""
    return hashlib.sha256(refresh_token.encode()).digest()
