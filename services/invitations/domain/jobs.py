"""Bulk jobs: their state is derived from their rows, never counted up by messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from services.invitations.domain.bulk import Channel, Door, RowOutcome
from shared.errors import BadRequest, Conflict, NotFound
from shared.events.audit import Actor

Ending = Literal["Completed", "CompletedWithErrors", "Cancelled", "Failed"]
JobStatus = Literal["Queued", "Processing"] | Ending
CHUNK_ROWS: Final = 500
_OPEN: Final = (RowOutcome.WAITING, RowOutcome.SENDING, RowOutcome.UNKNOWN)


class JobUnknown(NotFound):
    """No such job, or not the caller's."""

    code = "BULK_JOB_NOT_FOUND"
    message = "Toplu davet işi bulunamadı"


class NothingToCancel(Conflict):
    """Every row is sent or settled."""

    code = "NOTHING_TO_CANCEL"
    message = "İptal edilecek gönderilmemiş satır yok"


class NothingToRetry(Conflict):
    """No row failed for a reason that may have passed."""

    code = "NOTHING_TO_RETRY"
    message = "Yeniden denenecek başarısız satır yok"


class FormatUnknown(BadRequest):
    """Results come as xlsx or csv."""

    code = "FORMAT_UNKNOWN"
    message = "Biçim xlsx veya csv olmalıdır"


@dataclass(frozen=True, slots=True)
class Job:
    """One call of a bulk door."""

    id: int
    sponsor_id: int
    sponsor_name: str
    actor: Actor
    door: Door
    channel: Channel
    custom_message: str | None
    request_id: str
    total_rows: int
    created_at: datetime
    finished_at: datetime | None
    cancelled_at: datetime | None

    @property
    def on_behalf_of(self) -> int | None:
        """Name the sponsor for whom an admin acts, if so."""
        return self.sponsor_id if self.door.is_on_behalf else None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come."""

    counts: Mapping[RowOutcome, int]
    started_at: datetime
    finished_at: datetime | None
    was_cancelled: bool

    def count(self, outcome: RowOutcome) -> int:
        """Count the rows with one outcome."""
        return self.counts.get(outcome, 0)

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.counts.values())

    @property
    def settled(self) -> int:
        """Rows of which the end is known, or known to need a person."""
        return self.total - sum(self.count(outcome) for outcome in _OPEN)

    @property
    def is_finished(self) -> bool:
        """Whether every row is settled and the end is written down."""
        return self.finished_at is not None

    @property
    def status(self) -> JobStatus:
        """Sum up the rows in one word; a job has ended when that is written down, with the moment and the event."""
        if self.is_finished:
            return self.ending
        waiting = self.count(RowOutcome.WAITING)
        return "Queued" if waiting and waiting + self.count(RowOutcome.FAILED) == self.total else "Processing"

    @property
    def ending(self) -> Ending:
        """Sum up rows that are all settled."""
        if self.was_cancelled and self.count(RowOutcome.CANCELLED):
            return "Cancelled"
        if self.count(RowOutcome.SENT) == self.total:
            return "Completed"
        # What needs a person may have arrived: only what certainly failed as a whole is called so.
        return "CompletedWithErrors" if self.count(RowOutcome.SENT) + self.count(RowOutcome.NEEDS_REVIEW) else "Failed"

    @property
    def percent(self) -> int:
        """Share of settled rows; 100 only at the end."""
        return 100 if self.is_finished else min(99, 100 * self.settled // max(1, self.total))

    def rate(self, now: datetime) -> float:
        """Rows settled per second."""
        seconds = ((self.finished_at or now) - self.started_at).total_seconds()
        return round(self.settled / seconds, 1) if seconds > 0 else 0.0

    def estimated_end(self, now: datetime) -> datetime | None:
        """Tell when the rest will be done at the present rate."""
        rate = self.rate(now)
        if self.settled == self.total or rate == 0:
            return None
        return now + timedelta(seconds=(self.total - self.settled) / rate)
