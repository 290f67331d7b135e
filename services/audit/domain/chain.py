"""The chain: each record's hash covers its place, its content and the record before it.

`hash = SHA-256(tag || u64be(seq) || prev || SHA-256(payload))`. Every part has a fixed length, so that no byte can
wander from one field into the next. Places come from the head row, never from a sequence: a sequence leaves gaps
when a transaction rolls back, and gaps are what we look for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from services.audit.domain.canonical import canonical, timestamp

TAG: Final = b"audit-v1\0"
GENESIS: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain stands: the last place, its hash and its time."""

    chain_id: UUID
    seq: int
    hash: bytes
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Columns:
    """What is searchable of a record; derived from its payload and compared with it by every verification."""

    event_id: UUID
    service: str
    occurred_at: datetime
    recorded_at: datetime
    actor_id: int | None
    action: str
    target: str | None
    outcome: str
    severity: str
    request_id: str | None
    on_behalf_of: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """One link of the chain, as stored."""

    seq: int
    prev_hash: bytes
    hash: bytes
    payload: bytes
    columns: Columns | None

    def content(self) -> dict[str, Any]:
        """Read the payload."""
        content: dict[str, Any] = orjson.loads(self.payload)
        return content

    def is_intact(self) -> bool:
        """Say whether the hash is that of this payload, in this place, behind that record."""
        return self.seq > 0 and link_hash(self.seq, self.prev_hash, self.payload) == self.hash


def link_hash(seq: int, prev: bytes, payload: bytes) -> bytes:
    """Compute what binds a payload to its place and to all that went before."""
    return hashlib.sha256(TAG + seq.to_bytes(8, "big") + prev + hashlib.sha256(payload).digest()).digest()


def extend(head: Head, contents: Iterable[Mapping[str, Any]], now: datetime) -> list[Record]:
    """Put contents behind the head, in this order, all recorded at one time that never runs backwards."""
    recorded_at = max(now, head.recorded_at)
    seq, prev, records = head.seq, head.hash, []
    for content in contents:
        payload = canonical({**content, "recordedtime": timestamp(recorded_at)})
        seq += 1
        record_hash = link_hash(seq, prev, payload)
        records.append(Record(seq, prev, record_hash, payload, columns_of(orjson.loads(payload))))
        prev = record_hash
    return records


def head_after(head: Head, records: list[Record], now: datetime) -> Head:
    """Say where the chain stands once these records are in it."""
    if not records:
        return head
    return Head(head.chain_id, records[-1].seq, records[-1].hash, max(now, head.recorded_at))


def columns_of(content: Mapping[str, Any]) -> Columns:
    """Derive the searchable columns from a payload; the one recipe, for sealing and for verifying."""
    actor, target = content["actor"], content.get("target")
    return Columns(
        event_id=UUID(content["id"]),
        service=_column(content["service"]) or "",
        occurred_at=datetime.fromisoformat(content["time"]),
        recorded_at=datetime.fromisoformat(content["recordedtime"]),
        actor_id=_number(actor.get("id")),
        action=_column(content["action"]) or "",
        target=_column(f"{target['kind']}:{target['id']}") if target else None,
        outcome=_column(content["outcome"]) or "",
        severity=_column(content["severity"]) or "",
        request_id=_column(content.get("request_id")),
        on_behalf_of=_number(content.get("on_behalf_of")),
    )


# A B-tree entry holds at most 2,704 bytes (Postgres refuses the row otherwise); four bytes a character at most.
_LONGEST_COLUMN: Final = 512


def _column(text: str | None) -> str | None:
    """Fit text into an indexed column: Postgres text can't hold NUL, and an index entry has a largest size."""
    return None if text is None else text.replace("\0", "\ufffd")[:_LONGEST_COLUMN]


def _number(value: object) -> int | None:
    """Keep what fits a bigint column; a larger integer is text in the payload and not searchable."""
    return value if isinstance(value, int) else None
