"""Events of auth: accounts and sessions."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from shared.events.envelope import Event


class Account(Event):
    """The whole state of an account that other services may copy; a higher `version` is newer."""

    user_id: int
    version: int
    email: str
    full_name: str
    roles: list[str]
    is_active: bool
    status: Literal["active", "disabled"]
    on_behalf_of: list[int] | Literal["all"] = []

    def about(self) -> str:
        """Name it."""
        return f"user/{self.user_id}"


class UserRegistered(Account):
    """An account was made, or is told of again to a consumer that started empty."""

    routing_key: ClassVar[str] = "auth.user.registered.v1"


class UserChanged(Account):
    """Roles, status or grants of an account changed."""

    routing_key: ClassVar[str] = "auth.user.changed.v1"


class SessionsRevoked(Event):
    """Sessions of an account ended before their time; their access tokens must be refused from now on.

    `session_ids` names the sessions; empty means every token of the account that was issued before `revoked_at`.
    """

    routing_key: ClassVar[str] = "auth.sessions.revoked.v1"
    user_id: int
    session_ids: list[UUID] = []
    revoked_at: datetime
    reason: str

    def about(self) -> str:
        """Name it."""
        return f"user/{self.user_id}"


class PasswordResetRequested(Event):
    """Somebody asked for a reset by typing an address; whether it belongs to anybody, the worker finds out."""

    routing_key: ClassVar[str] = "auth.password_reset.requested.v1"
    email: str
    requested_at: datetime
    purpose: Literal["reset", "first"] = "reset"


class PasswordChanged(Event):
    """An account has a new password; its owner is to be told."""

    routing_key: ClassVar[str] = "auth.password.changed.v1"
    user_id: int
    how: Literal["reset", "change", "first"]

    def about(self) -> str:
        """Name it."""
        return f"user/{self.user_id}"
