"""Verification: read the log from one end to the other and name everything that does not fit.

Each finding has a kind and a place. What one attack breaks is named once, where it was broken: behind an edited record
the check goes on with the stored hash, so that one edit does not drown the report in a million followers. Whatever the
records hold, the check goes on to the end: who can forge a record must not be able to stop us from naming the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from services.audit.domain.chain import GENESIS, Columns, Head, Record, columns_of
from services.audit.domain.checkpoints import FIRST, Checkpoint
from services.audit.domain.findings import Kind, Report
from services.audit.domain.personal import KeptKey, PersonalData
from services.audit.domain.sequences import SourceSequences
from shared.sealing import CannotOpen

# A log that is whole keeps few checkpoints waiting for their records; one whose checkpoints outlived it may have years.
_MOST_EXPECTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the first record checked must follow: the beginning of the chain, or the last record before it."""

    seq: int = 0
    hash: bytes | None = GENESIS


@dataclass(frozen=True, slots=True)
class Beside:
    """What other tables say of a record: where its event is found, and the key of its personal data."""

    place: tuple[int, datetime] | None
    key: KeptKey | None


class Verifier:
    """Checks a stream of records in the order of their places."""

    def __init__(
        self, anchor: Anchor, report: Report, *, whole: bool, personal_data: PersonalData | None = None
    ) -> None:
        self.report = report
        report.first_seq, report.last_seq = anchor.seq + 1, anchor.seq
        self._next, self._prev = anchor.seq + 1, anchor.hash
        self._anchor, self._personal_data = anchor, personal_data
        self._sources = SourceSequences(from_the_start=whole and anchor.seq == 0)
        self._expected: dict[int, dict[bytes, Checkpoint]] = {}

    def expect(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Take signed checkpoints, before the records that they speak of."""
        for checkpoint in checkpoints:
            if checkpoint.seq >= self._next - 1:
                self._expected.setdefault(checkpoint.seq, {}).setdefault(checkpoint.head, checkpoint)
        if len(self._expected) > _MOST_EXPECTED:
            # Each speaks of all that came before it, so that the latest ones say everything.
            for seq in sorted(self._expected)[: -_MOST_EXPECTED // 2]:
                del self._expected[seq]
        self._compare_checkpoints(self._next - 1, self._prev)

    def feed(self, record: Record, beside: Beside | None = None) -> None:
        """Check the next record."""
        self.report.records += 1
        in_place = self._check_place(record)
        if not record.is_intact():
            self.report.add(Kind.HASH, record.seq, "the payload, the place or the hash was changed")
            self._note_sequence_of_damaged(record)
        else:
            try:
                self._check_content(record, beside if in_place else None)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self.report.add(Kind.COLUMN, record.seq, f"the payload is no audit record ({type(error).__name__})")
        if in_place:
            self._next, self._prev = record.seq + 1, record.hash
            self.report.last_seq = record.seq
            self._compare_checkpoints(record.seq, record.hash)

    def finish(self, head: Head | None, *, now: datetime, source_grace: timedelta) -> Report:
        """Check what only the end can tell; head is None when the range ends before the log does."""
        last = self._next - 1
        self.report.last_hash = (self._prev or b"").hex()
        if head is not None:
            self._check_head(head, last)
            beyond = max(self._expected, default=last)
            if beyond > last:
                number = min(checkpoint.number for checkpoint in self._expected[beyond].values())
                self.report.add(
                    Kind.TAIL_SHORT, last + 1, f"checkpoint {number} is signed for {beyond} records, {last} are left"
                )
        for gap in self._sources.gaps():
            if now - gap.noticed_at >= source_grace:
                self.report.add(Kind.SOURCE_GAP, gap.noticed_at_seq, gap.words())
        return self.report

    def _check_place(self, record: Record) -> bool:
        """Check the place and the link; False for a record in a place that is taken or was never one."""
        if record.seq <= self._anchor.seq:
            self.report.add(Kind.FORK, record.seq, f"a record before the first place, which is {self._anchor.seq + 1}")
            return False
        if record.seq < self._next:
            self.report.add(Kind.FORK, record.seq, "a second record claims this place")
            return False
        if record.seq > self._next:
            self.report.add(Kind.GAP, self._next, f"{record.seq - self._next} missing before {record.seq}")
        elif self._prev is not None and record.prev_hash != self._prev:
            self.report.add(Kind.LINK, record.seq, "does not follow the record before it")
        return True

    def _check_content(self, record: Record, beside: Beside | None) -> None:
        """Compare the payload with what was derived from it, and follow the producer's own numbering."""
        content = record.content()
        expected = columns_of(content)
        wrong = _differing(record.columns, expected) if record.columns else []
        for name in wrong:
            self.report.add(Kind.COLUMN, record.seq, f"column {name} does not say what the payload says")
        self._check_number(content, record, expected)
        if beside is None or wrong:
            return
        if beside.place != (record.seq, expected.recorded_at):
            self.report.add(Kind.COLUMN, record.seq, "seen_events does not lead from the event to this record")
        if content["personal"] is not None and self._personal_data is not None:
            self._check_key(record.seq, expected, beside.key, self._personal_data)

    def _check_number(self, content: dict[str, Any], record: Record, expected: Columns) -> None:
        number, source = content.get("sequence"), str(content["type"])
        if not isinstance(number, int):
            self.report.add(Kind.FORK, record.seq, f"no producer of {source} has numbered this event")
        elif not self._sources.take(source, number, record.seq, expected.recorded_at):
            detail = f"two events carry number {number} of {source}: one is not its producer's"
            self.report.add(Kind.FORK, record.seq, detail)

    def _check_key(self, seq: int, expected: Columns, kept: KeptKey | None, personal_data: PersonalData) -> None:
        if kept is None:
            self.report.add(Kind.PERSONAL_KEY, seq, "the key of its personal data is gone, and we did not erase it")
            return
        try:
            erased = personal_data.key_of(str(expected.event_id), kept) is None
        except CannotOpen as error:
            self.report.add(Kind.PERSONAL_KEY, seq, f"the key of its personal data is not the one we kept: {error}")
            return
        if not erased and kept.actor_id != expected.actor_id:
            self.report.add(Kind.PERSONAL_KEY, seq, "the key of its personal data is kept under another account")

    def _note_sequence_of_damaged(self, record: Record) -> None:
        """Count an edited record's event as arrived; its finding is HASH, not a lost event as well."""
        try:
            content = record.content()
            number = int(content["sequence"])
            self._sources.take(str(content["type"]), number, record.seq, datetime.max.replace(tzinfo=UTC))
        except (ValueError, KeyError, TypeError):
            return

    def _check_head(self, head: Head, last: int) -> None:
        if head.seq < self._anchor.seq:
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


class CheckpointSeries:
    """Checks that each signed checkpoint names the one before it, in number and digest."""

    def __init__(self, before: Checkpoint | None = None) -> None:
        self._before = before

    def follow(self, report: Report, checkpoint: Checkpoint) -> None:
        """Check the next one."""
        before, self._before = self._before, checkpoint
        last, digest = (before.number, before.digest()) if before else (0, FIRST)
        if checkpoint.number > last + 1:
            report.add(Kind.GAP, checkpoint.seq, f"checkpoints {last + 1} to {checkpoint.number - 1} are missing")
        elif checkpoint.previous != digest:
            report.add(Kind.LINK, checkpoint.seq, f"checkpoint {checkpoint.number} does not follow {last}")


def _differing(stored: Columns, derived: Columns) -> list[str]:
    return [each.name for each in fields(Columns) if getattr(stored, each.name) != getattr(derived, each.name)]
