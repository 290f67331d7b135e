"""Bodies of requests and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from services.referrals.commands.sign_in import BegunSignIn
from services.referrals.domain.failures import SignInRequired
from services.referrals.domain.sign_ins import Condition, SignInState, StoredSignIn
from services.referrals.domain.syncs import Mode, Sync, SyncState
from services.referrals.store.sign_ins import SignIn
from shared.db import Row


class SyncEnqueued(BaseModel):
    """The answer of the runbook, with the task's id besides; the counts are of the older, synchronous days."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "message": "Referral sync task enqueued. Check logs for results.",
                    "enqueued": True,
                    "task_id": "0199d6f2-7c1b-7c44-9f0e-3f6a5f2b8c11",
                    "success_count": 0,
                    "failure_count": 0,
                    "skipped_count": 0,
                    "errors": [],
                }
            ]
        }
    )

    success: bool = True
    message: str = "Referral sync task enqueued. Check logs for results."
    enqueued: bool
    task_id: UUID
    success_count: int = 0
    failure_count: int = 0
    skipped_count: int = 0
    errors: list[str] = []


class SyncBody(BaseModel):
    """One sync task."""

    task_id: UUID
    status: SyncState
    mode: Mode
    listing: str | None
    pages: int
    fetched: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    wait_until: datetime | None
    error_code: str | None
    error: str | None

    @classmethod
    def of(cls, sync: Sync) -> Self:
        """Describe a task."""
        ended = sync.finished_at or (datetime.now(UTC) if sync.started_at else None)
        return cls(
            task_id=sync.task_id,
            status=sync.state,
            mode=sync.mode,
            listing=sync.listing,
            pages=sync.pages,
            fetched=sync.counts.fetched,
            created=sync.counts.created,
            updated=sync.counts.updated,
            unchanged=sync.counts.unchanged,
            rejected=sync.counts.rejected,
            requested_at=sync.requested_at,
            started_at=sync.started_at,
            finished_at=sync.finished_at,
            duration_seconds=(ended - sync.started_at).total_seconds() if ended and sync.started_at else None,
            wait_until=sync.wait_until,
            error_code=sync.error_code,
            error=sync.error,
        )


class SyncPage(BaseModel):
    """A page of the history of syncs."""

    items: list[SyncBody]
    next_cursor: str | None


class SignInBegun(BaseModel):
    """What the person who asked must do: open the address, type the code."""

    sign_in_id: UUID
    verification_uri: str
    user_code: str
    expires_at: datetime
    interval: float

    @classmethod
    def of(cls, begun: BegunSignIn) -> Self:
        """Describe a sign-in that has begun."""
        code = begun.code
        return cls(
            sign_in_id=begun.sign_in_id,
            verification_uri=code.verification_uri,
            user_code=code.user_code,
            expires_at=code.expires_at,
            interval=code.interval_seconds,
        )


class SignInBody(BaseModel):
    """Where a sign-in stands; the code is there for the person who asked, as long as it waits."""

    sign_in_id: UUID
    status: SignInState
    verification_uri: str
    user_code: str | None
    expires_at: datetime
    interval: float
    account: str | None
    error_code: str | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, sign_in: SignIn, user_code: str | None) -> Self:
        """Describe a sign-in."""
        return cls(
            sign_in_id=sign_in.sign_in_id,
            status=sign_in.state,
            verification_uri=sign_in.verification_uri,
            user_code=user_code,
            expires_at=sign_in.expires_at,
            interval=sign_in.interval_seconds,
            account=sign_in.account,
            error_code=sign_in.error_code,
            error=sign_in.error,
            created_at=sign_in.created_at,
            finished_at=sign_in.finished_at,
        )


class ConnectionBody(BaseModel):
    """How the connection to Partner Center is."""

    status: Condition
    partner_center_enabled: bool
    account: str | None = None
    tenant_id: str | None = None
    connected_at: datetime | None = None
    refreshed_at: datetime | None = None
    token_expires_at: datetime | None = None
    expires_at: datetime | None = None
    reason: str | None = None

    @classmethod
    def of(cls, stored: StoredSignIn | None, *, is_enabled: bool, not_usable: str | None = None) -> Self:
        """Describe the stored sign-in; one that the settings do not fit counts as none, and the reason says so."""
        if stored is None:
            return cls(
                status=Condition.SIGN_IN_REQUIRED, partner_center_enabled=is_enabled, reason=SignInRequired.message
            )
        now = datetime.now(UTC)
        return cls(
            status=Condition.SIGN_IN_REQUIRED if not_usable else stored.condition(now),
            partner_center_enabled=is_enabled,
            account=stored.account.username,
            tenant_id=stored.account.tenant_id,
            connected_at=stored.connected_at,
            refreshed_at=stored.refreshed_at,
            token_expires_at=stored.token_expires_at,
            expires_at=stored.expires_at,
            reason=not_usable or stored.complaint(now),
        )


class ConnectionReset(BaseModel):
    """Whether there was a stored sign-in to forget."""

    success: bool = True
    existed: bool


class ReferralBody(BaseModel):
    """A referral as lists show it."""

    referral_id: str
    engagement_id: str | None
    name: str | None
    referral_type: str | None
    direction: str | None
    qualification: str | None
    category: str | None
    status: str | None
    substatus: str | None
    status_reason: str | None
    company_name: str | None
    domain: str | None
    country: str | None
    deal_value: Decimal | None
    currency: str | None
    created_at: datetime | None
    updated_at: datetime
    first_seen_at: datetime
    synced_at: datetime
    missing_since: datetime | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Describe a stored referral."""
        return cls.model_validate({name: row[name] for name in ReferralBody.model_fields})


class ReferralPage(BaseModel):
    """A page of referrals."""

    items: list[ReferralBody]
    next_cursor: str | None


class StatusBody(BaseModel):
    """One entry of a referral's history."""

    status: str | None
    substatus: str | None
    changed_at: datetime
    recorded_at: datetime


class ReferralDetail(ReferralBody):
    """A referral whole: with what Microsoft sent and the history of its status."""

    raw: dict[str, Any]
    history: list[StatusBody]

    @classmethod
    def with_history(cls, row: Row, statuses: list[Row]) -> Self:
        """Describe a stored referral and its history."""
        history = [StatusBody.model_validate(dict(status)) for status in statuses]
        values = {name: row[name] for name in (*ReferralBody.model_fields, "raw")}
        return cls.model_validate(values | {"history": history})
