"""Sign-ins at Microsoft and the connection that they leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from services.referrals.domain.failures import PartnerCenterNotConfigured, SignInRefused


class SignInState(StrEnum):
    """Where a sign-in stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    EXPIRED = "expired"
    FAILED = "failed"


class Condition(StrEnum):
    """How the connection to Partner Center is."""

    HEALTHY = "healthy"
    EXPIRING = "expiring"
    SIGN_IN_REQUIRED = "sign_in_required"


@dataclass(frozen=True, slots=True)
class Account:
    """Who signed in at Microsoft."""

    home_account_id: str
    username: str
    tenant_id: str


# Entra ends a refresh token after 90 days without use (facts 3); we warn while there is time to act.
REFRESH_TOKEN_LIFETIME: Final = timedelta(days=90)
WARN_BEFORE: Final = timedelta(days=21)


@dataclass(frozen=True, slots=True)
class StoredSignIn:
    """The stored sign-in: the connection to Partner Center."""

    account: Account
    sealed_cache: bytes = field(repr=False)
    version: int
    connected_at: datetime
    refreshed_at: datetime
    token_expires_at: datetime
    refused_because: str | None
    reported: Condition

    @property
    def expires_at(self) -> datetime:
        """Estimate when the sign-in dies if nothing refreshes it."""
        return self.refreshed_at + REFRESH_TOKEN_LIFETIME

    def condition(self, now: datetime) -> Condition:
        """Say how the connection is."""
        if self.refused_because is not None or now >= self.expires_at:
            return Condition.SIGN_IN_REQUIRED
        return Condition.EXPIRING if now >= self.expires_at - WARN_BEFORE else Condition.HEALTHY

    def complaint(self, now: datetime) -> str | None:
        """Say what is wrong with the connection and what cures it; None while it is healthy."""
        if self.refused_because is not None:
            return self.refused_because
        day = f"{self.expires_at:%Y-%m-%d}"
        return {
            Condition.HEALTHY: None,
            Condition.EXPIRING: f"The sign-in at Partner Center expires about {day}. Sign in again before.",
            Condition.SIGN_IN_REQUIRED: f"The sign-in at Partner Center expired about {day}. Sign in again.",
        }[self.condition(now)]


def refuse_foreign_tenant(account: Account, tenant_id: str | None) -> None:
    """Refuse an account of another tenant than ours: its referrals would be another company's."""
    if tenant_id is None:
        raise PartnerCenterNotConfigured
    if account.tenant_id.lower() != tenant_id.lower():
        raise SignInRefused(
            f"{account.username or 'The account'} belongs to tenant {account.tenant_id}, but this service is set up "
            f"for {tenant_id}. Sign in with an account of that tenant, or correct HUNTER_PARTNER_CENTER_TENANT_ID.",
            error="wrong_tenant",
        )
