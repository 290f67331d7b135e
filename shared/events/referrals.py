"""Events of referrals: Partner Center sign-in and sync."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from shared.events.envelope import Event


class ReferralReceived(Event):
    """A referral was seen for the first time."""

    routing_key: ClassVar[str] = "referrals.referral.received.v1"
    referral_id: str
    status: str | None
    substatus: str | None
    referral_type: str | None
    company_name: str | None
    country: str | None
    updated_at: datetime | None

    def about(self) -> str:
        """Name it."""
        return f"referral/{self.referral_id}"


class ReferralChanged(Event):
    """A referral changed: `fields` of Microsoft's object; `changes` maps each promoted one to its old and new value."""

    routing_key: ClassVar[str] = "referrals.referral.changed.v1"
    referral_id: str
    changes: dict[str, tuple[Any, Any]]
    fields: list[str] = []
    updated_at: datetime | None

    def about(self) -> str:
        """Name it."""
        return f"referral/{self.referral_id}"


class SyncTask(Event):
    """Something about one sync task."""

    task_id: UUID

    def about(self) -> str:
        """Name it."""
        return f"sync/{self.task_id}"


class ReferralSyncRequested(SyncTask):
    """A sync was asked for; the work of referrals for itself."""

    routing_key: ClassVar[str] = "referrals.sync.requested.v1"
    mode: Literal["incremental", "full"]


class ReferralSyncCompleted(SyncTask):
    """A sync ran to its end."""

    routing_key: ClassVar[str] = "referrals.sync.completed.v1"
    fetched: int
    created: int
    updated: int
    unchanged: int
    rejected: int


class ReferralSyncFailed(SyncTask):
    """A sync gave up."""

    routing_key: ClassVar[str] = "referrals.sync.failed.v1"
    error: str


class PartnerCenterSignInRequired(Event):
    """The stored sign-in no longer works, or soon will not (`expiring`): a person must sign in."""

    routing_key: ClassVar[str] = "referrals.sign_in.required.v1"
    status: Literal["expiring", "sign_in_required"] = "sign_in_required"
    reason: str
