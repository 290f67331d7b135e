"""Sync tasks: how referrals are asked for, and what a worker needs to go on where another one died."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from services.referrals.domain.referrals import Referral

Mode = Literal["incremental", "full"]
# The first try and three rungs of the ladder (5 s, 30 s, 5 min) at the same page; then the task fails and says why.
MOST_ATTEMPTS: Final = 4
MOST_RESTARTS: Final = 2


class SyncState(StrEnum):
    """Where a sync task stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SIGN_IN_REQUIRED = "sign_in_required"

    @property
    def is_open(self) -> bool:
        """Say whether work is still to be done."""
        return self in {SyncState.QUEUED, SyncState.RUNNING}


class Listing(StrEnum):
    """How the referrals are asked for; each is the fallback of the one before when Microsoft refuses the query."""

    FILTERED = "filtered"  # changed since the watermark, oldest change first
    DESCENDING = "descending"  # newest change first, until a whole page is older than the watermark
    EVERYTHING = "everything"  # by creation, which is stable while rows change

    @property
    def fallback(self) -> Listing | None:
        """Give what to try when this one is refused."""
        return {Listing.FILTERED: Listing.DESCENDING, Listing.DESCENDING: Listing.EVERYTHING}.get(self)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a sync, or one page of it, found."""

    fetched: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Sum up what two pages found."""
        return Counts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Sync:
    """One sync task, with all that a worker needs to go on with it from the page where another one died."""

    task_id: UUID
    mode: Mode
    state: SyncState
    requested_at: datetime
    listing: Listing | None = None
    since: datetime | None = None
    next_target: str | None = None
    account_id: str | None = None
    newest_at: datetime | None = None
    newest_raw: str | None = None
    pages: int = 0
    counts: Counts = Counts()
    attempts: int = 0
    restarts: int = 0
    wait_until: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error_code: str | None = None
    error: str | None = None

    @property
    def is_worn_out(self) -> bool:
        """Say whether this page was tried often enough."""
        return self.attempts >= MOST_ATTEMPTS

    @property
    def is_read(self) -> bool:
        """Say whether the last page is stored, so that all that is left is to end it."""
        return self.pages > 0 and self.next_target is None

    def take_up(self, now: datetime) -> Sync:
        """Begin, or go on after a worker died or had to wait."""
        return replace(
            self,
            state=SyncState.RUNNING,
            started_at=self.started_at or now,
            attempts=self.attempts + 1,
            wait_until=None,
        )

    def list_by(self, listing: Listing, *, since: datetime | None, account_id: str) -> Sync:
        """Ask from the first page, in this way."""
        return replace(
            self,
            listing=listing,
            since=since,
            account_id=account_id,
            next_target=None,
            newest_at=None,
            newest_raw=None,
        )

    def fall_back(self) -> Sync | None:
        """Ask in the next simpler way, from its first page; None when there is none."""
        if self.next_target is not None:
            # The page before was taken, so the continuation has expired: a resumed sync starts its listing again.
            return (
                replace(self, next_target=None, restarts=self.restarts + 1) if self.restarts < MOST_RESTARTS else None
            )
        simpler = self.listing.fallback if self.listing else None
        return replace(self, listing=simpler) if simpler else None

    def turn_page(self, found: Counts, *, newest: Referral | None, next_target: str | None) -> Sync:
        """Note a page that is stored; the next worker starts behind it."""
        is_newer = newest is not None and (self.newest_at is None or newest.updated_at > self.newest_at)
        return replace(
            self,
            pages=self.pages + 1,
            counts=self.counts + found,
            next_target=next_target,
            newest_at=newest.updated_at if newest and is_newer else self.newest_at,
            newest_raw=newest.updated_raw if newest and is_newer else self.newest_raw,
            attempts=0,
        )

    def finish(self, state: SyncState, now: datetime, *, code: str | None = None, error: str | None = None) -> Sync:
        """End it, well or not."""
        return replace(self, state=state, finished_at=now, next_target=None, error_code=code, error=error)

    def is_done_after(self, referrals: list[Referral], next_target: str | None) -> bool:
        """Say whether a page was the last one to ask for."""
        if next_target is None:
            return True
        # Newest change first: a page that lies wholly before the time asked for ends it.
        return (
            self.listing is Listing.DESCENDING
            and self.since is not None
            and bool(referrals)
            and all(referral.updated_at < self.since for referral in referrals)
        )
