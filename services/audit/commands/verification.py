"""Verification of the stored log against itself and against what was signed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.audit import store
from services.audit.commands.acknowledgements import find_acknowledged
from services.audit.commands.results import Verified, check_results
from services.audit.domain.chain import Record
from services.audit.domain.checkpoints import (
    Checkpoint,
    UnreadableCheckpointError,
    VerifierKey,
    open_note,
    origin_of,
    unsigned,
)
from services.audit.domain.findings import Kind, Report
from services.audit.domain.personal import PersonalData
from services.audit.domain.verification import Anchor, Beside, CheckpointSeries, Verifier
from shared.db import Connection, Row
from shared.errors import Invalid

# Gives the signed notes of one file that lies outside the database.
Notes = Callable[[], list[str]]


class RangeUnknown(Invalid):
    """The log holds no such place."""

    code = "AUDIT_RANGE_UNKNOWN"
    message = "The log holds no such place."


@dataclass(frozen=True, slots=True)
class Scope:
    """What to verify, and with what from outside the database."""

    keys: list[VerifierKey]
    personal_data: PersonalData
    # Files as they were before the transaction of the verification began: a checkpoint that is written later may
    # speak of records that the transaction does not see.
    outside: Sequence[Notes] = ()
    first: int | None = None
    last: int | None = None
    source_grace: timedelta = timedelta()
    after: Verified | None = None

    @property
    def since(self) -> datetime | None:
        """Say from when on checkpoints and results have not been looked at."""
        return self.after.started_at if self.after else None


async def verify(conn: Connection, scope: Scope) -> Report:
    """Verify the log; must be the first thing in a REPEATABLE READ transaction, which shows it one moment."""
    await store.hold_months(conn)
    report = Report()
    report.acknowledged = await find_acknowledged(conn, scope.keys, report)
    head = await store.find_head(conn)
    if scope.first is not None and head is not None and scope.first > head.seq:
        raise RangeUnknown(f"There is no record {scope.first}: the log ends at {head.seq}.")
    origin = origin_of(head.chain_id) if head else None
    anchor = await _anchor(conn, scope, origin, report)
    if scope.last is not None and scope.last <= anchor.seq:
        raise RangeUnknown(f"There is no record up to {scope.last}: the log begins at {anchor.seq + 1}.")
    is_whole = scope.first is None and scope.after is None
    verifier = Verifier(anchor, report, whole=is_whole, personal_data=scope.personal_data)
    signed = _Signed(origin, anchor, scope, report)
    async for outside in signed.outside(conn):
        verifier.expect(outside)
    checkpoints, reached = signed.stored(conn), anchor.seq - 1
    async for records in store.stream_records(conn, None if is_whole else anchor.seq + 1, scope.last):
        while reached < records[-1].seq and (ahead := await anext(checkpoints, None)) is not None:
            verifier.expect(ahead)
            reached = ahead[-1].seq if ahead else reached
        event_ids = [record.columns.event_id if record.columns else None for record in records]
        beside = await store.list_beside(conn, event_ids)
        await asyncio.to_thread(_feed, verifier, records, beside)
    async for ahead in checkpoints:
        verifier.expect(ahead)
    signed.finish()
    if scope.first is None and scope.last is None:
        await check_results(conn, scope.keys, scope.since, report)
    ends = head if scope.last is None or (head and scope.last >= head.seq) else None
    if head is None:
        report.add(Kind.TAIL_SHORT, report.last_seq, "the head of the chain is gone")
    # A number that is missing before an early end may well come behind it.
    grace = scope.source_grace if ends else timedelta.max
    return verifier.finish(ends, now=datetime.now(UTC), source_grace=grace)


async def _anchor(conn: Connection, scope: Scope, origin: str | None, report: Report) -> Anchor:
    """Find what the first record to be checked must follow."""
    start = await _after_pruning(conn, scope.keys, origin, report)
    if scope.after is not None and scope.after.seq > start.seq:
        return Anchor(scope.after.seq, scope.after.hash)
    if scope.first is None or scope.first <= start.seq + 1:
        return start
    return Anchor(scope.first - 1, await store.find_hash(conn, scope.first - 1))


async def _after_pruning(conn: Connection, keys: list[VerifierKey], origin: str | None, report: Report) -> Anchor:
    """Find where the log begins: at its first record, or behind the months that were dropped with a signed note."""
    row = await store.find_last_pruning(conn)
    if row is None:
        return Anchor()
    try:
        pruned = open_note(row["note"], keys)
    except UnreadableCheckpointError as error:
        report.add(Kind.CHECKPOINT_SIG, row["last_seq"], f"the note about dropped months: {error}")
        return Anchor()
    if (pruned.origin, pruned.seq) != (f"{origin}/pruned", row["last_seq"]):
        report.add(Kind.CHECKPOINT_SIG, row["last_seq"], "the note about dropped months was signed for something else")
        return Anchor()
    return Anchor(pruned.seq, pruned.head)


class _Signed:
    """Every signed checkpoint that speaks about the records to be checked, some at a time: there is one a minute."""

    def __init__(self, origin: str | None, anchor: Anchor, scope: Scope, report: Report) -> None:
        self._origin, self._anchor, self._scope, self._report = origin, anchor, scope, report
        self._foreign: Checkpoint | None = None

    async def stored(self, conn: Connection) -> AsyncIterator[list[Checkpoint]]:
        """Read those in the database; each must name the one before it."""
        series: CheckpointSeries | None = None
        first, last, since = self._anchor.seq, self._scope.last, self._scope.since
        async for rows in store.stream_checkpoints(conn, first_seq=first, last_seq=last, since=since):
            if series is None:
                series = CheckpointSeries(await self._before(conn, rows[0]["number"]))
            opened = await asyncio.to_thread(self._open_rows, rows)
            for checkpoint in opened:
                series.follow(self._report, checkpoint)
            yield self._ours(opened)

    async def outside(self, conn: Connection) -> AsyncIterator[list[Checkpoint]]:
        """Read those outside the database that it does not hold word for word."""
        for notes_of in self._scope.outside:
            read = await asyncio.to_thread(self._read, notes_of)
            stored = await store.list_notes(conn, [number for number, _ in read])
            strange = [note for number, note in read if note != stored.get(number)]
            ours = self._ours(await asyncio.to_thread(self._open, strange))
            for checkpoint in ours:
                if checkpoint.number and checkpoint.number not in stored:
                    detail = f"checkpoint {checkpoint.number} was removed from the database"
                    self._report.add(Kind.GAP, checkpoint.seq, detail)
            yield ours

    def finish(self) -> None:
        """Name what was signed for another log."""
        if self._foreign:
            detail = f"checkpoint {self._foreign.number} was signed for another log, {self._foreign.origin}"
            self._report.add(Kind.FORK, self._foreign.seq, detail)

    def _ours(self, checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
        ours = []
        for checkpoint in checkpoints:
            if checkpoint.origin != self._origin:
                self._foreign = self._foreign or checkpoint
            else:
                ours.append(checkpoint)
        return ours

    def _read(self, notes_of: Notes) -> list[tuple[int, str]]:
        """Read the notes of a file that may speak of our records, with their numbers; 0 for what can't be read."""
        read = [(unsigned(note), note) for note in notes_of()]
        return [
            (checkpoint.number if checkpoint else 0, note)
            for checkpoint, note in read
            if checkpoint is None or self._concerns(checkpoint)
        ]

    def _concerns(self, checkpoint: Checkpoint) -> bool:
        last, since = self._scope.last, self._scope.since
        return (
            checkpoint.seq >= self._anchor.seq
            and (last is None or checkpoint.seq <= last)
            and (since is None or checkpoint.taken_at >= since)
        )

    @staticmethod
    async def _before(conn: Connection, number: int) -> Checkpoint | None:
        note = (await store.list_notes(conn, [number - 1])).get(number - 1)
        return unsigned(note) if note is not None else None

    def _open_rows(self, rows: Iterable[Row]) -> list[Checkpoint]:
        opened = []
        for row in rows:
            for checkpoint in self._open([row["note"]], seq=row["seq"]):
                facts = (checkpoint.seq, checkpoint.number, checkpoint.taken_at)
                if facts != (row["seq"], row["number"], row["taken_at"]):
                    detail = f"checkpoint {checkpoint.number}: the row does not say what its signed note says"
                    self._report.add(Kind.CHECKPOINT_SIG, checkpoint.seq, detail)
                else:
                    opened.append(checkpoint)
        return opened

    def _open(self, notes: Iterable[str], *, seq: int = 0) -> list[Checkpoint]:
        opened = []
        for note in notes:
            try:
                opened.append(open_note(note, self._scope.keys))
            except UnreadableCheckpointError as error:
                self._report.add(Kind.CHECKPOINT_SIG, seq, str(error))
        return opened


def _feed(verifier: Verifier, records: Iterable[Record], beside: Iterable[Beside]) -> None:
    for record, more in zip(records, beside, strict=True):
        verifier.feed(record, more)
