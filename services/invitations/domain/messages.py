"""What we say to a messaging provider and what it can answer.

No provider here has exactly-once sending, so an answer is one of four facts and never a guess: the provider took the
message, refused it, certainly never got it, or nobody knows. Only the third may be sent again without asking first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable
from uuid import UUID

from services.invitations.domain.pacing import Pace

_LONGEST_RETRY_AFTER_SECONDS: Final = 600.0


class DeliveryStatus(StrEnum):
    """How far a message has come, in the words of all providers; it only ever moves forward."""

    ACCEPTED = "accepted"
    SENT = "sent"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    DELIVERED = "delivered"
    READ = "read"

    @property
    def rank(self) -> int:
        """Reports arrive out of order; the one with the higher rank is the truth."""
        return _RANKS[self]

    def replaces(self, earlier: "DeliveryStatus | None") -> bool:
        """Whether this report tells more than the one before it."""
        return earlier is None or self.rank > earlier.rank


# A receipt of arrival is stronger than a report of failure: a handset's late receipt is evidence, a time-out is not.
_RANKS: Mapping[DeliveryStatus, int] = {
    DeliveryStatus.ACCEPTED: 1,
    DeliveryStatus.SENT: 2,
    DeliveryStatus.UNDELIVERED: 3,
    DeliveryStatus.FAILED: 3,
    DeliveryStatus.DELIVERED: 4,
    DeliveryStatus.READ: 5,
}


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message to one farmer; `phone` is E.164, `variables` fill the approved template where a channel needs one."""

    delivery_id: UUID
    phone: str
    text: str
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has the message. `duplicate`: it says it had it already (the id is then not told again)."""

    provider_id: str | None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider refused this message for good; it was not sent and must not be tried again as it is."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Certainly not sent, safe to retry. `account`: our account is refused, so every other message would be too.

    `alone`: a batch was refused as a whole because of one message in it; each is to be tried by itself.
    """

    reason: str
    retry_after: float | None = None
    account: bool = False
    alone: bool = False

    @classmethod
    def rate_limited(cls, retry_after_header: str | None) -> "NotSent":
        """Read a 429; only the form in seconds of Retry-After (RFC 9110) is used by these providers.

        A longer pause is no pace but an error, such as a date in seconds: the message would outlive its invitation.
        """
        seconds = retry_after_header or ""
        retry_after = min(float(seconds), _LONGEST_RETRY_AFTER_SECONDS) if seconds.isdecimal() else None
        return cls("rate limited", retry_after=retry_after)


@dataclass(frozen=True, slots=True)
class Unknown:
    """May or may not have been sent; must be looked up, never simply sent again."""

    reason: str


Outcome = Accepted | Rejected | NotSent | Unknown


@dataclass(frozen=True, slots=True)
class Clue:
    """How to recognise a message at a provider that keeps no id of ours: `mark` is text that only this message has."""

    phone: str
    mark: str
    sent_after: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """The provider knows the message."""

    provider_id: str
    status: DeliveryStatus


@dataclass(frozen=True, slots=True)
class NotFound:
    """The provider does not know the message. Only an authoritative answer proves that it was never received."""

    authoritative: bool


@dataclass(frozen=True, slots=True)
class LookUpFailed:
    """The provider could not be asked; nothing is known, ask again later."""

    reason: str


LookUp = Found | NotFound | LookUpFailed


@dataclass(frozen=True, slots=True)
class StatusReport:
    """One delivery report that a provider pushed to us, already verified to be the provider's."""

    delivery_id: UUID | None
    provider_id: str | None
    status: DeliveryStatus
    error_code: str | None = None


class Provider(Protocol):
    """A messaging provider: sends one message, answers what became of one."""

    @property
    def name(self) -> str:
        """The name under which attempts are recorded."""

    @property
    def look_up_pace(self) -> Pace:
        """How often it may be asked what became of messages."""

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Send once; never retries and never raises for what the provider or the network does."""

    async def look_up(self, delivery_id: UUID, provider_id: str | None, *, clue: Clue | None = None) -> LookUp:
        """Ask the provider what became of a message; `clue` is needed where neither id is known to it."""

    async def close(self) -> None:
        """Give the connections back."""


@runtime_checkable
class BatchProvider(Provider, Protocol):
    """A provider that takes many messages in one request, under an id of ours for the whole batch."""

    @property
    def most_at_once(self) -> int:
        """How many messages one request may hold."""

    async def send_many(self, batch_id: UUID, messages: Sequence[OutgoingMessage]) -> Sequence[Outcome]:
        """Send a batch once; gives an outcome for each message, in their order."""

    async def look_up_many(self, batch_id: UUID, delivery_ids: Sequence[UUID]) -> Mapping[UUID, LookUp]:
        """Ask the provider what became of messages of a batch."""
