"""Verification of an export without the database: with the file and the verifier key alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.audit.domain.chain import Head, Record
from services.audit.domain.checkpoints import UnreadableCheckpointError, VerifierKey, open_note
from services.audit.domain.exports import read_ndjson_line
from services.audit.domain.findings import Kind, Report
from services.audit.domain.verification import Anchor, Verifier

_NO_CHAIN = UUID(int=0)


def verify_export(lines: Iterable[bytes], keys: list[VerifierKey], kept_notes: Iterable[str] = ()) -> Report:
    """Check an NDJSON export: every hash, and for a whole stretch every link, its ends and its checkpoint as well."""
    checks: _Whole | _Selection | None = None
    frames: list[dict[str, Any]] = []
    damaged = 0
    for line in lines:
        try:
            item = read_ndjson_line(line)
        except (ValueError, KeyError, TypeError):
            damaged += 1
            continue
        if isinstance(item, dict):
            frames.append(item)
            continue
        if checks is None:
            checks = _Whole(item, frames, keys, kept_notes) if _is_whole(frames) else _Selection(item)
        checks.feed(item)
    report = checks.finish(frames) if checks else Report()
    if isinstance(checks, _Whole) and report.checkpoints == 0:
        report.add(Kind.CHECKPOINT_SIG, 0, "no checkpoint signed by these keys speaks of these records")
    if damaged:
        report.add(Kind.HASH, report.last_seq, f"{damaged} lines can't be read")
    ends = [frame for frame in frames if frame.get("part") == "last line"]
    if not ends or ends[-1].get("records") != report.records:
        report.add(Kind.TAIL_SHORT, report.last_seq + 1, "the export was cut off, or lines of it are missing")
    return report


def _is_whole(frames: list[dict[str, Any]]) -> bool:
    return bool(frames) and not frames[0].get("filters")


class _Selection:
    """A filtered export: its records stand alone."""

    def __init__(self, first: Record) -> None:
        self._report = Report(first_seq=first.seq)

    def feed(self, record: Record) -> None:
        self._report.records += 1
        self._report.last_seq = record.seq
        if not record.is_intact():
            self._report.add(Kind.HASH, record.seq, "the payload, the place or the hash was changed")

    def finish(self, _: list[dict[str, Any]]) -> Report:
        return self._report


class _Whole:
    """A stretch of the log without gaps."""

    def __init__(
        self, first: Record, frames: list[dict[str, Any]], keys: list[VerifierKey], kept_notes: Iterable[str]
    ) -> None:
        report = Report()
        self._verifier = Verifier(Anchor(first.seq - 1, first.prev_hash), report, whole=False)
        for note in [*(frame["checkpoint"] for frame in frames if frame.get("checkpoint")), *kept_notes]:
            try:
                checkpoint = open_note(str(note), keys)
            except UnreadableCheckpointError as error:
                report.add(Kind.CHECKPOINT_SIG, 0, str(error))
            else:
                self._verifier.expect([checkpoint])
        self._last = first

    def feed(self, record: Record) -> None:
        self._verifier.feed(record)
        self._last = record

    def finish(self, frames: list[dict[str, Any]]) -> Report:
        head = Head(_NO_CHAIN, int(frames[0].get("last_seq", 0)), self._last.hash, datetime.now(UTC))
        # What a producer numbered in between may lie in the next stretch: gaps are for the whole log to tell.
        return self._verifier.finish(head, now=datetime.now(UTC), source_grace=timedelta.max)
