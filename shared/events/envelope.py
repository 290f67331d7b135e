"""The envelope of every event: CloudEvents 1.0, structured JSON.

Extensions: `correlationid` (the request that caused it), `causationid` (the event that caused it), `traceparent`, and
`sequence` (contiguous per type and publisher, given by the relay, so that a consumer of the type can see a gap).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from shared import telemetry
from shared.identifiers import uuid7

SPEC_VERSION: Final = "1.0"
SOURCE_PREFIX: Final = "/partner-hub/"
_SEQUENCE: Final = re.compile(r"[1-9][0-9]{0,14}")
_registry: dict[str, type[Event]] = {}


class Undecodable(Exception):
    """These bytes are no event that this code knows."""


class Event(BaseModel):
    """Something that happened, in the past tense."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    routing_key: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Enter each event with a routing key of its own into the catalog."""
        super().__pydantic_init_subclass__(**kwargs)
        key = cls.__dict__.get("routing_key")
        if key is None:
            return
        if key in _registry:
            raise TypeError(f"two events are called {key}")
        _registry[key] = cls

    @classmethod
    def publisher(cls) -> str:
        """Name the one service that publishes this."""
        return cls.routing_key.partition(".")[0]

    def about(self) -> str | None:
        """Name the thing that it happened to, `kind/id`."""
        return None


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event with the facts of its journey."""

    id: UUID
    source: str
    time: datetime
    event: Event
    subject: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    sequence: int | None = None

    @property
    def publisher(self) -> str:
        """Name the service that published it."""
        return self.source.removeprefix(SOURCE_PREFIX)


def catalog() -> dict[str, type[Event]]:
    """Give every event by its routing key."""
    return dict(_registry)


def encode(event: Event) -> tuple[UUID, bytes]:
    """Put an event into its envelope, tied to the request or event at hand; gives its id and the JSON."""
    trace = telemetry.current()
    event_id = uuid7()
    envelope: dict[str, Any] = {
        "specversion": SPEC_VERSION,
        "id": str(event_id),
        "source": SOURCE_PREFIX + event.publisher(),
        "type": event.routing_key,
        "time": datetime.now(UTC),
        "datacontenttype": "application/json",
        "correlationid": trace.request_id,
    }
    optional = {"subject": event.about(), "causationid": trace.causation_id, "traceparent": trace.traceparent}
    envelope.update({name: value for name, value in optional.items() if value is not None})
    envelope["data"] = event.model_dump(mode="json")
    return event_id, orjson.dumps(envelope)


def with_sequence(envelope: bytes, sequence: int) -> bytes:
    """Add the sequence to an encoded envelope (a string, as the CloudEvents extension wants it)."""
    return b'%s,"sequence":"%d"}' % (envelope[:-1], sequence)


def decode(body: bytes) -> Envelope:
    """Read an envelope; raises Undecodable with the reason."""
    try:
        raw = orjson.loads(body)
        kind = _registry[raw["type"]]
        _refuse_other_types(raw)
        if raw["source"] != SOURCE_PREFIX + kind.publisher():
            raise Undecodable(f"{raw['type']} does not come from {raw['source']}")
        return Envelope(
            id=UUID(raw["id"]),
            source=raw["source"],
            time=_moment(raw["time"]),
            event=kind.model_validate(raw["data"]),
            subject=raw.get("subject"),
            correlation_id=raw.get("correlationid"),
            causation_id=raw.get("causationid"),
            traceparent=raw.get("traceparent"),
            sequence=_sequence(raw.get("sequence")),
        )
    except ValidationError as error:
        raise Undecodable(
            f"data does not fit {raw['type']}: {error.error_count()} errors, first at {error.errors()[0]['loc']}"
        ) from error
    except KeyError as error:
        raise Undecodable(f"unknown type or missing attribute: {error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Undecodable(f"no CloudEvents JSON: {error}") from error


def _refuse_other_types(raw: dict[str, Any]) -> None:
    """Refuse attributes that are no text here: later on they would fail where a message can't be set aside."""
    for name in ("subject", "correlationid", "causationid", "traceparent"):
        if not isinstance(raw.get(name, ""), str):
            raise TypeError(f"{name} is no text")
    if not isinstance(raw["source"], str):
        raise TypeError("source is no text")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("time has no zone")
    return moment.astimezone(UTC)  # where that overflows, the time is none that a database or a hash could keep


def _sequence(text: str | None) -> int | None:
    """Read a publisher's number; one that JSON can't hold exactly would change on its way into the audit log."""
    if text is None:
        return None
    if not _SEQUENCE.fullmatch(text):
        raise ValueError("sequence is no number")
    return int(text)
