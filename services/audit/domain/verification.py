"""Verification: read the log from one end to the other and name everything that does not fit.

Each finding has a kind and a place. What one attack breaks is named once, where it was broken: behind an edited record
the check goes on with the stored hash, so that one edit does not drown the report in a million followers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from services.audit.domain.chain import GENESIS, Columns, Head, Record, columns_of, link_hash
from services.audit.domain.checkpoints import Checkpoint
from services.audit.domain.sequences import SourceSequences

# A report that names this many places is long enough to act on; the count goes on.
_MOST_FINDINGS: Final = 1000


class Kind(StrEnum):
    """What can be wrong with a log."""

    HASH = "HASH"
    COLUMN = "COLUMN"
    GAP = "GAP"
    LINK = "LINK"
    TAIL_SHORT = "TAIL_SHORT"
    CHECKPOINT_SIG = "CHECKPOINT_SIG"
    FORK = "FORK"
    SOURCE_GAP = "SOURCE_GAP"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    kind: Kind
    seq: int
    detail: str

    def words(self) -> str:
        """Say it in one line."""
        return f"{self.kind} at {self.seq}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the first record checked must follow: the beginning of the chain, or the last record before it."""

    seq: int = 0
    hash: bytes | None = GENESIS


@dataclass(slots=True)
class Report:
    """The result of one verification."""

    first_seq: int
    last_seq: int = 0
    records: int = 0
    checkpoints: int = 0
    total_findings: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Say whether nothing is wrong."""
        return self.total_findings == 0

    def add(self, kind: Kind, seq: int, detail: str) -> None:
        """Note one finding."""
        self.total_findings += 1
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(Finding(kind, seq, detail))

    def as_dict(self) -> dict[str, Any]:
        """Give the shape that is stored and shown."""
        return {**asdict(self), "ok": self.ok}


class Verifier:
    """Checks a stream of records in the order of their places."""

    def __init__(self, anchor: Anchor, checkpoints: Iterable[Checkpoint], *, whole: bool) -> None:
        self.report = Report(first_seq=anchor.seq + 1, last_seq=anchor.seq)
        self._next, self._prev = anchor.seq + 1, anchor.hash
        self._sources = SourceSequences(from_the_start=whole and anchor.seq == 0)
        self._expected: dict[int, dict[bytes, Checkpoint]] = {}
        for checkpoint in checkpoints:
            self._expected.setdefault(checkpoint.seq, {}).setdefault(checkpoint.head, checkpoint)
        self._compare_checkpoints(anchor.seq, anchor.hash)

    def feed(self, record: Record) -> None:
        """Check the next record."""
        self.report.records += 1
        in_place = self._check_place(record)
        if link_hash(record.seq, record.prev_hash, record.payload) != record.hash:
            self.report.add(Kind.HASH, record.seq, "the payload, the place or the hash was changed")
            self._note_sequence_of_damaged(record)
        else:
            self._check_content(record)
        if in_place:
            self._next, self._prev = record.seq + 1, record.hash
            self.report.last_seq = record.seq
            self._compare_checkpoints(record.seq, record.hash)

    def finish(self, head: Head | None, *, now: datetime, source_grace: timedelta) -> Report:
        """Check what only the end can tell; head is None when the range ends before the log does."""
        last = self._next - 1
        if head is not None:
            self._check_head(head, last)
            for seq in sorted(self._expected):
                if seq > last:
                    number = min(checkpoint.number for checkpoint in self._expected[seq].values())
                    self.report.add(
                        Kind.TAIL_SHORT, last + 1, f"checkpoint {number} is signed for {seq} records, {last} are left"
                    )
        for gap in self._sources.gaps():
            if now - gap.noticed_at >= source_grace:
                self.report.add(Kind.SOURCE_GAP, gap.noticed_at_seq, gap.words())
        return self.report

    def _check_place(self, record: Record) -> bool:
        """Check the place and the link; False for a second record in a place that is taken."""
        if record.seq < self._next:
            self.report.add(Kind.FORK, record.seq, "a second record claims this place")
            return False
        if record.seq > self._next:
            self.report.add(Kind.GAP, self._next, f"{record.seq - self._next} missing before {record.seq}")
        elif self._prev is not None and record.prev_hash != self._prev:
            self.report.add(Kind.LINK, record.seq, "does not follow the record before it")
        return True

    def _check_content(self, record: Record) -> None:
        """Compare the searchable columns with the payload, and follow the producer's own numbering."""
        content = record.content()
        expected = columns_of(content)
        if record.columns is not None and record.columns != expected:
            for name in _differing(record.columns, expected):
                self.report.add(Kind.COLUMN, record.seq, f"column {name} does not say what the payload says")
        sequence = content.get("sequence")
        if isinstance(sequence, int) and not self._sources.take(
            content["type"], sequence, record.seq, expected.recorded_at
        ):
            self.report.add(
                Kind.FORK,
                record.seq,
                f"two events carry number {sequence} of {content['type']}: one is not its producer's",
            )

    def _note_sequence_of_damaged(self, record: Record) -> None:
        """Count an edited record's event as arrived; its finding is HASH, not a lost event as well."""
        try:
            content = record.content()
            self._sources.take(content["type"], int(content["sequence"]), record.seq, datetime.max.replace(tzinfo=UTC))
        except (ValueError, KeyError, TypeError):
            return

    def _check_head(self, head: Head, last: int) -> None:
        if head.seq < self.report.first_seq - 1:
            self.report.add(
                Kind.TAIL_SHORT, head.seq + 1, f"the log once reached {last}, its head stands at {head.seq}"
            )
        elif head.seq > last:
            self.report.add(Kind.TAIL_SHORT, last + 1, f"the head stands at {head.seq}, the last record is {last}")
        elif head.seq < last:
            self.report.add(Kind.FORK, head.seq + 1, f"records stand behind the head, which is at {head.seq}")
        elif self._prev is not None and head.hash != self._prev:
            self.report.add(Kind.LINK, head.seq, "the head does not name the hash of the last record")

    def _compare_checkpoints(self, seq: int, record_hash: bytes | None) -> None:
        if record_hash is None:
            return
        for head, checkpoint in self._expected.pop(seq, {}).items():
            self.report.checkpoints += 1
            if head != record_hash:
                self.report.add(Kind.FORK, seq, f"checkpoint {checkpoint.number} was signed for another history")


def check_checkpoint_chain(report: Report, checkpoints: Iterable[Checkpoint]) -> None:
    """Check that each signed checkpoint names the one before it, in number and digest."""
    before: Checkpoint | None = None
    for checkpoint in checkpoints:
        if before is not None and checkpoint.number > before.number + 1:
            report.add(
                Kind.GAP, checkpoint.seq, f"checkpoints {before.number + 1} to {checkpoint.number - 1} are missing"
            )
        elif before is not None and checkpoint.previous != before.digest():
            report.add(Kind.LINK, checkpoint.seq, f"checkpoint {checkpoint.number} does not follow {before.number}")
        before = checkpoint


def _differing(stored: Columns, derived: Columns) -> list[str]:
    return [each.name for each in fields(Columns) if getattr(stored, each.name) != getattr(derived, each.name)]
