"""Questions and answers of the audit API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from services.audit.domain.chain import Record
from services.audit.domain.filters import EventFilter, Position
from services.audit.domain.personal import Opened, restore
from shared.errors import FieldError, Invalid
from shared.moments import Moment
from shared.pagination import decode_cursor, encode_cursor

_LARGEST_ID = 2**63 - 1


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    return text


Text = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_storable)]
Id = Annotated[int, Field(ge=0, le=_LARGEST_ID)]
_POSITION: TypeAdapter[tuple[datetime, int]] = TypeAdapter(tuple[Moment, Annotated[Id, Strict()]])


class EventQuery(BaseModel):
    """Conditions on events; all of those given must hold. A name that is not among them is refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    since: Moment | None = Field(None, alias="from", description="RFC 3339; events at this time or later")
    until: Moment | None = Field(None, alias="to", description="RFC 3339; events before this time")
    actor: Id | None = Field(None, description="id of the account that acted")
    action: Text | None = Field(None, description="auth.password_reset.completed, …")
    target: Text | None = Field(None, description="kind:id, as in invitation:1234")
    outcome: Literal["success", "failure", "denied"] | None = None
    request_id: Text | None = None
    service: Text | None = None
    on_behalf_of: Id | None = Field(None, description="id of the sponsor")

    def wanted(self) -> EventFilter:
        """Give the conditions in the domain's words."""
        return EventFilter(
            since=self.since,
            until=self.until,
            actor_id=self.actor,
            action=self.action,
            target=self.target,
            outcome=self.outcome,
            request_id=self.request_id,
            service=self.service,
            on_behalf_of=self.on_behalf_of,
        )

    def asked(self) -> dict[str, Any]:
        """Give what the caller asked, for the record of the reading."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class PageQuery(EventQuery):
    """One page of events."""

    limit: int = Field(50, ge=1, le=1000)
    cursor: str | None = Field(None, max_length=200)

    def position(self) -> Position | None:
        """Say where the page before ended; raises Invalid."""
        if self.cursor is None:
            return None
        try:
            return Position(*_POSITION.validate_json(orjson.dumps(decode_cursor(self.cursor, 2))))
        except ValidationError:
            message = "Take the cursor from next_cursor of the page before."
            raise Invalid(fields=[FieldError("cursor", message)]) from None


class ExportQuery(EventQuery):
    """What to export, and how."""

    format: Literal["ndjson", "csv", "ocsf"] = Field(
        "ndjson", description="ndjson: evidence that verifies; csv: a table; ocsf: OCSF 1.8.0, one event a line"
    )


class Actor(BaseModel):
    """Who did it."""

    id: int | str | None
    kind: str
    roles: list[str]


class Target(BaseModel):
    """What it was done to."""

    kind: str
    id: str


class AuditEvent(BaseModel):
    """One record of the log, with its personal data opened."""

    id: UUID
    seq: int
    service: str
    type: str
    action: str
    actor: Actor
    on_behalf_of: int | str | None
    target: Target | None
    outcome: str
    reason: str | None
    severity: str
    ip: str | None
    user_agent: str | None
    request_path: str | None
    request_id: str | None
    occurred_at: datetime
    recorded_at: datetime
    details: dict[str, Any]
    personal: dict[str, str] | None = Field(description="null when it was erased, or when its key is gone or damaged")
    personal_erased: bool = Field(description="true when an operator erased it; verification names any other loss")
    sequence: int | None
    causation_id: str | None
    traceparent: str | None
    prev_hash: str
    hash: str

    @classmethod
    def of(cls, record: Record, opened: Opened) -> AuditEvent:
        """Show a record with its personal data."""
        shown = restore(record.content(), opened)
        personal = shown["personal"] or {}
        return cls(
            **{name: shown[name] for name in _AS_STORED},
            actor=Actor(
                id=shown["actor"].get("id"), kind=shown["actor"]["kind"], roles=shown["actor"].get("roles", [])
            ),
            seq=record.seq,
            ip=personal.get("ip"),
            user_agent=personal.get("user_agent"),
            occurred_at=shown["time"],
            recorded_at=shown["recordedtime"],
            causation_id=shown["causationid"],
            prev_hash=record.prev_hash.hex(),
            hash=record.hash.hex(),
        )


_AS_STORED = (
    "id", "service", "type", "action", "on_behalf_of", "target", "outcome", "reason", "severity", "request_path",
    "request_id", "details", "personal", "personal_erased", "sequence", "traceparent",
)  # fmt: skip


class EventPage(BaseModel):
    """A page of events, newest first."""

    items: list[AuditEvent]
    next_cursor: str | None


class FindingShown(BaseModel):
    """One thing that is wrong, and where."""

    kind: str
    seq: int
    detail: str


class KnownFinding(FindingShown):
    """A finding that an operator has acknowledged, and why."""

    reason: str


class PendingVerification(BaseModel):
    """A verification that waits or runs."""

    id: UUID
    status: Literal["queued", "running"]
    requested_at: datetime
    requested_by: int | None


class VerificationShown(BaseModel):
    """The last result, and beside it the verification that is queued or running now."""

    status: Literal["never", "finished"] = "never"
    id: UUID | None = None
    ok: bool | None = None
    whole: bool | None = Field(None, description="false: only what came after the last good one was checked")
    requested_at: datetime | None = None
    requested_by: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    last_hash: str | None = Field(None, description="hash of the last record that was checked")
    records: int | None = None
    checkpoints: int | None = None
    total_findings: int | None = None
    findings: list[FindingShown] = []
    known: list[KnownFinding] = Field([], description="acknowledged by an operator; does not count")
    pending: PendingVerification | None = None


class VerificationQueued(BaseModel):
    """A verification was queued; its result comes with GET."""

    id: UUID
    status: Literal["queued"] = "queued"


class CheckpointShown(BaseModel):
    """A signed checkpoint, for outsiders who keep their own copy."""

    number: int
    seq: int
    taken_at: datetime
    note: str = Field(
        description="C2SP signed note; keep it, or this whole answer, as it is: verify --checkpoint reads both"
    )
    verifier_key: str = Field(description="name+hash+key; whoever has it can check the note alone")


def position_of(record: Record) -> Position:
    """Say where a record stands in the order of pages."""
    if record.columns is None:
        raise ValueError("a record that was read from the log has its columns")
    return Position(record.columns.occurred_at, record.seq)


def cursor_behind(record: Record) -> str:
    """Make the cursor of the page that begins behind this record."""
    position = position_of(record)
    return encode_cursor(position.occurred_at.isoformat(), position.seq)
