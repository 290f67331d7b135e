"""Verifications that the worker runs: queued by the clock or by a person, their results kept signed.

The owner of the database can write into their table, too. So nothing in it is believed without a signature: neither how
far an earlier verification came, nor that one was run at all.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from prometheus_client import Gauge

from services.audit import store
from services.audit.domain.checkpoints import SigningKey, VerifierKey
from services.audit.domain.findings import Kind, Report
from services.audit.domain.statements import is_signed, sign_statement
from shared import audit, telemetry
from shared.db import Connection, Row
from shared.events import AuditAudit
from shared.events.audit import Actor
from shared.identifiers import uuid7
from shared.identity import Principal

log = logging.getLogger(__name__)

VERIFIED_OK = Gauge("audit_verification_ok", "1 when the last verification found nothing wrong, else 0")
VERIFIED_AT = Gauge("audit_last_verification_timestamp_seconds", "When the last verification ended")

_SIGNED: Final = (
    "id", "whole", "requested_at", "requested_by", "asked_by", "request_id", "started_at", "finished_at", "ok",
    "last_seq", "report",
)  # fmt: skip
_ABOUT: Final = "verification"
# Somebody may have put unsigned results before ours; among so many newest ones we look for one of ours.
_LOOK_BACK: Final = 50
# By so much the clocks of two database servers may differ, of which one took over from the other.
_SKEW: Final = timedelta(minutes=5)
_KEPT_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Verified:
    """How far an earlier verification found the log good, as its signed result says."""

    seq: int
    hash: bytes
    started_at: datetime


async def request_verification(conn: Connection, reader: Principal) -> UUID:
    """Queue a verification of the whole log for a person; the worker runs it."""
    verification_id = uuid7()
    await store.insert_verification(
        conn, verification_id, whole=True, asked_by=audit.actor_of(reader), request_id=telemetry.current().request_id
    )
    await audit.record(conn, AuditAudit, action="audit.verification.requested", actor=reader)
    return verification_id


async def queue_verification(
    conn: Connection, keys: list[VerifierKey], *, every: timedelta, whole_every: timedelta
) -> UUID | None:
    """Queue the regular verification: what came since the last good one, and the whole log once in a while."""
    now = await store.read_clock(conn)
    last = await find_result(conn, keys)
    _show(last)
    if await find_pending(conn) is not None or (last is not None and abs(now - last["finished_at"]) < every):
        return None
    whole = await find_result(conn, keys, good=True, whole=True)
    verification_id = uuid7()
    await store.insert_verification(
        conn,
        verification_id,
        whole=whole is None or abs(now - whole["finished_at"]) >= whole_every,
        asked_by=Actor(kind="service"),
        request_id=telemetry.current().request_id,
    )
    await store.delete_results(conn, days=_KEPT_DAYS)
    return verification_id


async def start_verification(conn: Connection, keys: list[VerifierKey]) -> tuple[Row, Verified | None] | None:
    """Take a queued verification; gives it and how far the log is known to be good (None: from the beginning)."""
    job = await store.claim_verification(conn)
    if job is None:
        return None
    good = None if job["whole"] else await find_result(conn, keys, good=True)
    if good is None:
        return job, None
    return job, Verified(good["report"]["last_seq"], bytes.fromhex(good["report"]["last_hash"]), good["started_at"])


async def finish_verification(conn: Connection, job: Row, report: Report, key: SigningKey) -> None:
    """Keep the result, tell the metrics and the log, and record it where somebody asked or something new is wrong."""
    before = await find_result(conn, [key.verifier])
    row = await store.save_verification(
        conn,
        job["id"],
        finished_at=await store.read_clock(conn),
        ok=report.ok,
        last_seq=report.last_seq,
        report=report.as_dict(),
    )
    await store.save_signature(conn, job["id"], sign_statement(key, _ABOUT, _facts(row)))
    _show(row)
    for finding in report.findings:
        log.error("the audit log was tampered with or is incomplete: %s", finding.words())
    log.info("verified %d records, %d findings", report.records, report.total_findings)
    is_known = before is not None and before["report"]["findings"] == report.as_dict()["findings"]
    if not job["whole"] and (report.ok or is_known):
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


async def find_result(
    conn: Connection, keys: list[VerifierKey], *, good: bool = False, whole: bool = False
) -> Row | None:
    """Find the newest result that we signed: any, a good one, or one of the whole log."""
    rows = await store.list_results(conn, good=good, whole=whole, limit=_LOOK_BACK)
    return next((row for row in rows if _is_ours(row, keys)), None)


async def find_pending(conn: Connection) -> Row | None:
    """Find the verification that runs or comes next; one that is to begin in the future must not keep us from it."""
    now = await store.read_clock(conn)
    return next((row for row in await store.list_pending_verifications(conn) if _begins(row) <= now), None)


async def check_results(conn: Connection, keys: list[VerifierKey], since: datetime | None, report: Report) -> None:
    """Name what was changed in the table of verifications, or put there to keep us from verifying."""
    async for rows in store.stream_results(conn, since=since):
        for row in rows:
            if not _is_ours(row, keys):
                report.add(Kind.RESULT, 0, f"verification {row['id']} does not say what we signed of it")
    now = await store.read_clock(conn)
    for row in await store.list_pending_verifications(conn):
        if _begins(row) > now + _SKEW:
            report.add(Kind.RESULT, 0, f"verification {row['id']} is to begin in the future")


def _is_ours(row: Row, keys: list[VerifierKey]) -> bool:
    return is_signed(keys, _ABOUT, _facts(row), row["signature"])


def _facts(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in _SIGNED}


def _begins(pending: Row) -> datetime:
    begins: datetime = max(pending["requested_at"], pending["started_at"] or pending["requested_at"])
    return begins


def _show(result: Row | None) -> None:
    """Tell the metrics of this replica, whichever of them ran the verification."""
    if result is not None:
        VERIFIED_OK.set(1 if result["ok"] else 0)
        VERIFIED_AT.set(result["finished_at"].timestamp())


def _summary(report: Report) -> dict[str, Any]:
    first = [f"{finding.kind} {finding.seq}" for finding in report.findings[:20]]
    return {
        "first_seq": report.first_seq,
        "last_seq": report.last_seq,
        "records": report.records,
        "findings": report.total_findings,
        "first_findings": first,
    }
