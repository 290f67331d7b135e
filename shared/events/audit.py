"""Audit events: one kind per publishing service, so that the broker's permissions can tell who may say what."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from shared.events.envelope import Event

ActorKind = Literal["user", "admin", "service", "anonymous", "operator"]
Outcome = Literal["success", "failure", "denied"]
Severity = Literal["info", "notice", "warning", "critical"]


class Actor(BaseModel):
    """Who did it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    kind: ActorKind
    id: int | None = None
    roles: list[str] = []


class Target(BaseModel):
    """What it was done to."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    kind: str
    id: str


class AuditRecorded(Event):
    """Somebody did something, or tried to.

    `personal` holds what identifies a person (ip, user_agent, email, phone …); audit seals it. `details` holds no
    secret and no float (its bytes are hashed in canonical form).
    """

    action: str
    actor: Actor
    outcome: Outcome = "success"
    target: Target | None = None
    on_behalf_of: int | None = None
    reason: str | None = None
    severity: Severity = "info"
    request_id: str
    request_path: str | None = None
    personal: dict[str, str] = {}
    details: dict[str, Any] = {}

    def about(self) -> str | None:
        """Name it."""
        return f"{self.target.kind}/{self.target.id}" if self.target else None


class AuthAudit(AuditRecorded):
    """An act in auth."""

    routing_key: ClassVar[str] = "auth.audit.recorded.v1"


class ReferralsAudit(AuditRecorded):
    """An act in referrals."""

    routing_key: ClassVar[str] = "referrals.audit.recorded.v1"


class InvitationsAudit(AuditRecorded):
    """An act in invitations."""

    routing_key: ClassVar[str] = "invitations.audit.recorded.v1"


class AuditAudit(AuditRecorded):
    """An act in audit itself: reading, exporting, verifying, pruning."""

    routing_key: ClassVar[str] = "audit.audit.recorded.v1"
