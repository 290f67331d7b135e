"""From an event as it came to the content of a record: who did what to which thing, when, with which result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.audit.domain.canonical import timestamp
from services.audit.domain.personal import PersonalData, SealedPersonal, separate, without_secrets
from shared.errors import Invalid, NotFound

_VERSION: Final = 1
# An action may be named after what it was done to (partner_center.sync.completed), but not after another service.
_SERVICES: Final = frozenset({"auth", "referrals", "invitations", "audit", "gateway"})


class ForeignName(Invalid):
    """A service spoke under the name of another; such a record would be a forged testimony."""

    code = "AUDIT_FOREIGN_NAME"
    message = "A service may write audit records under its own name only."


class NumberMissing(Invalid):
    """An event that its publisher has not numbered could not be told from one that somebody wrote into the table."""

    code = "AUDIT_NUMBER_MISSING"
    message = "An audit event must carry its publisher's number."


class EventUnknown(NotFound):
    """The log holds no such event."""

    code = "AUDIT_EVENT_NOT_FOUND"
    message = "The audit log holds no event with this id."


@dataclass(frozen=True, slots=True)
class Arrival:
    """An audit event as it came off the queue."""

    event_id: UUID
    service: str
    source: str
    type: str
    occurred_at: datetime
    sequence: int | None
    correlation_id: str | None
    causation_id: str | None
    traceparent: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """Content that waits for its place in the chain; its personal data sealed, and in clear for the log line."""

    content: dict[str, Any]
    sealed: SealedPersonal | None
    personal: dict[str, str]

    @property
    def event_id(self) -> UUID:
        """Name the event."""
        return UUID(self.content["id"])


def draft(arrival: Arrival, personal_data: PersonalData) -> Draft:
    """Shape an arrival into the content of a record; raises ForeignName, NumberMissing."""
    data = arrival.data
    alleged = {arrival.type.partition(".")[0], str(data["action"]).partition(".")[0]} & _SERVICES
    if alleged != {arrival.service}:
        raise ForeignName(f"{arrival.source} sent {arrival.type} about {data['action']}.")
    if arrival.sequence is None:
        raise NumberMissing
    personal, details = separate(data.get("personal") or {}, data.get("details") or {})
    event_id = str(arrival.event_id)
    sealed = personal_data.seal(personal, event_id)
    content = {
        "v": _VERSION,
        "id": event_id,
        "service": arrival.service,
        "source": arrival.source,
        "type": arrival.type,
        "time": timestamp(arrival.occurred_at),
        "sequence": arrival.sequence,
        "correlationid": arrival.correlation_id,
        "causationid": arrival.causation_id,
        "traceparent": arrival.traceparent,
        "actor": data["actor"],
        "on_behalf_of": data.get("on_behalf_of"),
        "action": data["action"],
        "target": data.get("target"),
        "outcome": data["outcome"],
        "reason": data.get("reason"),
        "severity": data.get("severity", "info"),
        "request_id": data.get("request_id"),
        "request_path": without_secrets(data.get("request_path")),
        "details": details,
        "personal": None if sealed is None else sealed.text,
    }
    return Draft(content, sealed, personal)
