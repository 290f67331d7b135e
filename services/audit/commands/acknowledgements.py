"""Findings that are understood and can't be undone: an operator says so, signed, and verification tells them apart.

Without this, one event that was lost for good would leave the alarm on for ever, and a second finding unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.audit import store
from services.audit.domain.checkpoints import SigningKey, VerifierKey
from services.audit.domain.findings import Acknowledgement, Finding, Kind, Report
from services.audit.domain.statements import is_signed, sign_statement
from shared import audit
from shared.db import Connection
from shared.events import AuditAudit
from shared.events.audit import Actor
from shared.identifiers import uuid7

_ABOUT = "acknowledgement"


async def acknowledge(
    conn: Connection,
    findings: Iterable[Finding],
    key: SigningKey,
    *,
    reason: str,
    operator: Actor,
    origin: dict[str, str],
) -> None:
    """Keep an operator's signed word about findings; each is recorded in the log as well."""
    now = await store.read_clock(conn)
    for finding in findings:
        made = Acknowledgement(finding, reason, **origin, acknowledged_at=now)
        await store.insert_acknowledgement(conn, uuid7(), made, sign_statement(key, _ABOUT, made.facts()))
        await audit.record(
            conn,
            AuditAudit,
            action="audit.finding.acknowledged",
            actor=operator,
            reason=reason,
            severity="warning",
            details={"kind": finding.kind, "seq": finding.seq, "detail": finding.detail, **origin},
        )


async def find_acknowledged(
    conn: Connection, keys: list[VerifierKey], report: Report
) -> dict[Finding, Acknowledgement]:
    """Find what operators have acknowledged; a word that nobody signed counts for nothing and is named."""
    found = {}
    for row in await store.list_acknowledgements(conn):
        finding = Finding(row["kind"], row["seq"], row["detail"])
        made = Acknowledgement(finding, row["reason"], row["os_user"], row["host"], row["acknowledged_at"])
        if is_signed(keys, _ABOUT, made.facts(), row["signature"]):
            found[finding] = made
        else:
            report.add(Kind.RESULT, 0, f"acknowledgement {row['id']} does not say what we signed of it")
    return found
