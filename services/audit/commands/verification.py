"""Verification of the stored log against itself and against what was signed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prometheus_client import Gauge

from services.audit import store
from services.audit.domain.chain import Record
from services.audit.domain.checkpoints import Checkpoint, UnreadableCheckpointError, VerifierKey, open_note, origin_of
from services.audit.domain.verification import Anchor, Finding, Kind, Report, Verifier, check_checkpoint_chain
from shared import audit, telemetry
from shared.db import Connection, Row
from shared.events import AuditAudit
from shared.events.audit import Actor
from shared.identifiers import uuid7
from shared.identity import Principal

log = logging.getLogger(__name__)

VERIFIED_OK = Gauge("audit_verification_ok", "1 when the last verification found nothing wrong, else 0")
VERIFIED_AT = Gauge("audit_last_verification_timestamp_seconds", "When the last verification ended")


@dataclass(frozen=True, slots=True)
class Scope:
    """What to verify, and with what from outside the database."""

    keys: list[VerifierKey]
    outside_notes: list[str] = field(default_factory=list)
    first: int | None = None
    last: int | None = None
    source_grace: timedelta = timedelta()
    # Checkpoints signed before this time were compared by an earlier verification.
    since: datetime | None = None


async def verify(conn: Connection, scope: Scope) -> Report:
    """Verify the log; runs in a REPEATABLE READ transaction of the caller, so that it sees one moment.

    The notes from outside must have been read before that transaction began: one that is written later may speak of
    records that this moment does not show.
    """
    head = await store.find_head(conn)
    problems: list[Finding] = []
    origin = origin_of(head.chain_id) if head else None
    anchor = await _anchor(conn, scope, origin, problems)
    checkpoints = await _checkpoints(conn, scope, origin, anchor, problems)
    verifier = Verifier(anchor, checkpoints, whole=scope.first is None)
    async for records in store.stream_records(conn, anchor.seq + 1, scope.last):
        await asyncio.to_thread(_feed, verifier, records)
    ends = head if scope.last is None or (head and scope.last >= head.seq) else None
    # A number that is missing before an early end may well come behind it.
    grace = scope.source_grace if ends else timedelta.max
    report = verifier.finish(ends, now=datetime.now(UTC), source_grace=grace)
    if head is None:
        report.add(Kind.TAIL_SHORT, report.last_seq, "the head of the chain is gone")
    for problem in problems:
        report.add(problem.kind, problem.seq, problem.detail)
    return report


async def request_verification(conn: Connection, reader: Principal) -> UUID:
    """Queue a verification of the whole log for a person; the worker runs it."""
    verification_id = uuid7()
    await store.insert_verification(
        conn, verification_id, whole=True, asked_by=audit.actor_of(reader), request_id=telemetry.current().request_id
    )
    await audit.record(conn, AuditAudit, action="audit.verification.requested", actor=reader)
    return verification_id


async def queue_verification(
    conn: Connection, *, every: timedelta, whole_every: timedelta, now: datetime
) -> UUID | None:
    """Queue the regular verification: what came since the last good one, and the whole log once in a while."""
    if await store.find_pending_verification(conn) is not None:
        return None
    last = await store.find_last_verification(conn)
    if last is not None and now - last["finished_at"] < every:
        return None
    whole = await store.find_last_good_verification(conn, whole=True)
    verification_id = uuid7()
    await store.insert_verification(
        conn,
        verification_id,
        whole=whole is None or now - whole["finished_at"] >= whole_every,
        asked_by=Actor(kind="service"),
        request_id=telemetry.current().request_id,
    )
    return verification_id


async def start_verification(conn: Connection) -> tuple[Row, Row | None] | None:
    """Take a queued verification; gives it and the good one after which it goes on (None: from the beginning)."""
    job = await store.claim_verification(conn)
    if job is None:
        return None
    return job, None if job["whole"] else await store.find_last_good_verification(conn, whole=False)


async def finish_verification(conn: Connection, job: Row, report: Report) -> None:
    """Keep the result, tell the metrics and the log, and record it where somebody asked or something is wrong."""
    await store.save_verification(conn, job["id"], ok=report.ok, last_seq=report.last_seq, report=report.as_dict())
    VERIFIED_OK.set(1 if report.ok else 0)
    VERIFIED_AT.set_to_current_time()
    for finding in report.findings:
        log.error("the audit log was tampered with or is incomplete: %s", finding.words())
    log.info("verified %d records, %d findings", report.records, report.total_findings)
    if report.ok and not job["whole"]:
        return
    with telemetry.use(telemetry.Trace(telemetry.sane_request_id(job["request_id"]))):
        await audit.record(
            conn,
            AuditAudit,
            action="audit.verification.completed",
            actor=Actor.model_validate(job["asked_by"]),
            outcome="success" if report.ok else "failure",
            reason=None if report.ok else "tampered with or incomplete",
            severity="info" if report.ok else "critical",
            details=_summary(report),
        )


async def _anchor(conn: Connection, scope: Scope, origin: str | None, problems: list[Finding]) -> Anchor:
    """Find what the first record to be checked must follow."""
    start = Anchor()
    note = await store.find_last_pruning(conn)
    if note is not None:
        try:
            pruned = open_note(note, scope.keys)
        except UnreadableCheckpointError as error:
            problems.append(Finding(Kind.CHECKPOINT_SIG, 1, f"the note about dropped months: {error}"))
        else:
            if pruned.origin == f"{origin}/pruned":
                start = Anchor(pruned.seq, pruned.head)
    if scope.first is None or scope.first <= start.seq + 1:
        return start
    return Anchor(scope.first - 1, await store.find_hash(conn, scope.first - 1))


async def _checkpoints(
    conn: Connection, scope: Scope, origin: str | None, anchor: Anchor, problems: list[Finding]
) -> list[Checkpoint]:
    """Collect every signed checkpoint that speaks about the records to be checked."""
    rows = await store.list_checkpoints(conn, first_seq=anchor.seq, since=scope.since)
    stored = await asyncio.to_thread(_open_rows, rows, scope.keys, problems)
    # What the directory and the table have in common was opened already.
    known = {row["note"] for row in rows}
    strange = [note for note in scope.outside_notes if note not in known]
    outside = await asyncio.to_thread(_open_notes, strange, scope.keys, problems)
    chain = Report(first_seq=anchor.seq)
    check_checkpoint_chain(chain, stored)
    problems += chain.findings
    numbers = {row["number"] for row in rows}
    relevant = [
        checkpoint
        for checkpoint in outside
        if checkpoint.seq >= anchor.seq and (scope.since is None or checkpoint.taken_at >= scope.since)
    ]
    for checkpoint in relevant:
        if checkpoint.number not in numbers and checkpoint.origin == origin:
            problems.append(
                Finding(Kind.GAP, checkpoint.seq, f"checkpoint {checkpoint.number} was removed from the database")
            )
    foreign = [checkpoint for checkpoint in (*stored, *relevant) if checkpoint.origin != origin]
    if foreign:
        problems.append(
            Finding(
                Kind.FORK,
                foreign[0].seq,
                f"{len(foreign)} checkpoints were signed for another log, {foreign[0].origin}",
            )
        )
    last = scope.last if scope.last is not None else max((each.seq for each in (*stored, *relevant)), default=0)
    return [each for each in (*stored, *relevant) if each.origin == origin and each.seq <= last]


def _open_rows(rows: Iterable[Row], keys: list[VerifierKey], problems: list[Finding]) -> list[Checkpoint]:
    opened = []
    for row in rows:
        for checkpoint in _open_notes([row["note"]], keys, problems, seq=row["seq"]):
            if (checkpoint.seq, checkpoint.number, checkpoint.taken_at) != (row["seq"], row["number"], row["taken_at"]):
                detail = f"checkpoint {checkpoint.number}: the row does not say what its signed note says"
                problems.append(Finding(Kind.CHECKPOINT_SIG, checkpoint.seq, detail))
            opened.append(checkpoint)
    return opened


def _open_notes(
    notes: Iterable[str], keys: list[VerifierKey], problems: list[Finding], *, seq: int = 0
) -> list[Checkpoint]:
    opened = []
    for note in notes:
        try:
            opened.append(open_note(note, keys))
        except UnreadableCheckpointError as error:
            problems.append(Finding(Kind.CHECKPOINT_SIG, seq, str(error)))
    return opened


def _feed(verifier: Verifier, records: Iterable[Record]) -> None:
    for record in records:
        verifier.feed(record)


def _summary(report: Report) -> dict[str, Any]:
    first = [f"{finding.kind} {finding.seq}" for finding in report.findings[:20]]
    return {
        "first_seq": report.first_seq,
        "last_seq": report.last_seq,
        "records": report.records,
        "findings": report.total_findings,
        "first_findings": first,
    }
