"""Records, heads and keys for the tests of the audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.audit import commands
from services.audit.commands.verification import Scope
from services.audit.context import AuditContext
from services.audit.domain.canonical import timestamp
from services.audit.domain.chain import GENESIS, Head, link_hash
from services.audit.domain.checkpoints import FIRST, Checkpoint, SigningKey, origin_of
from services.audit.domain.findings import Report
from services.audit.domain.records import Arrival, Draft, draft
from services.audit.worker import verify_queued
from shared.db import Connection as Owner
from shared.events.audit import Actor
from shared.identifiers import uuid7

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
CHAIN = UUID("019ab000-0000-7000-8000-000000000001")
KEY = SigningKey.generate()
SECRET_KEYS = [bytes(range(32)), bytes(range(1, 33))]


def an_empty_head() -> Head:
    return Head(CHAIN, 0, GENESIS, datetime(2000, 1, 1, tzinfo=UTC))


def a_content(**changes: Any) -> dict[str, Any]:
    """The content of a record as `records.draft` makes it."""
    return {
        "v": 1,
        "id": str(uuid7()),
        "service": "auth",
        "source": "/partner-hub/auth",
        "type": "auth.audit.recorded.v1",
        "time": timestamp(NOW),
        "sequence": 1,
        "actor": {"kind": "admin", "id": 166, "roles": ["Admin"]},
        "on_behalf_of": None,
        "action": "auth.sign_in.succeeded",
        "target": {"kind": "user", "id": "166"},
        "outcome": "success",
        "reason": None,
        "severity": "info",
        "request_id": "request-1",
        "request_path": "/api/v1/auth/login",
        "details": {},
        "personal": None,
        **changes,
    }


def an_arrival(**changes: Any) -> Arrival:
    data = {
        "action": "invitations.invitation.sent_on_behalf",
        "actor": {"kind": "admin", "id": 166, "roles": ["Admin"]},
        "outcome": "success",
        "on_behalf_of": 6,
        "request_id": "request-1",
        "personal": {"phone": "+905421396386", "ip": "192.0.2.7"},
        "details": {"invitation_id": 1234},
        **changes.pop("data", {}),
    }
    given: dict[str, Any] = {
        "event_id": uuid7(),
        "service": "invitations",
        "source": "/partner-hub/invitations",
        "type": "invitations.audit.recorded.v1",
        "occurred_at": NOW,
        "sequence": 1,
        "correlation_id": "request-1",
        "causation_id": None,
        "traceparent": None,
        "data": data,
        **changes,
    }
    return Arrival(**given)


def a_checkpoint(seq: int, head: bytes, **changes: Any) -> Checkpoint:
    given: dict[str, Any] = {
        "origin": origin_of(CHAIN),
        "number": 1,
        "taken_at": NOW,
        "records": seq,
        "previous": FIRST,
        **changes,
    }
    return Checkpoint(seq=seq, head=head, **given)


async def sealed(context: AuditContext, *arrivals: Arrival) -> list[Draft]:
    """Seal arrivals in one transaction, as the worker does."""
    drafts = [draft(arrival, context.personal_data) for arrival in arrivals]
    async with context.database.transaction() as conn:
        return await commands.seal(conn, drafts)


async def verified(context: AuditContext, *kept: str, first: int | None = None, last: int | None = None) -> Report:
    """Verify the stored log with the directory's checkpoints and those that somebody kept."""
    outside = [*context.directory.files(), lambda: list(kept)]
    scope = Scope(context.verifier_keys, context.personal_data, outside=outside, first=first, last=last)
    async with context.database.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await commands.verify(conn, scope)


async def a_signed_checkpoint(context: AuditContext) -> str:
    """Sign a checkpoint now and copy it out of the database."""
    async with context.database.transaction() as conn:
        await commands.take_checkpoint(conn, context.signing_key, every=timedelta())
    async with context.database.connection() as conn:
        await commands.copy_checkpoints(conn, context.directory, context.verifier_keys)
    return kept_outside(context)[-1]


async def erase(context: AuditContext, actor_id: int | None = None) -> int:
    """Erase the person of `an_arrival`, and what an account did; gives of how many records."""
    async with context.database.transaction() as conn:
        return await commands.erase_person(
            conn,
            context.personal_data,
            subjects=["0542 139 63 86"],
            actor_id=actor_id,
            reason="asked by the person",
            operator=Actor(kind="operator"),
            origin={},
        )


def kept_outside(context: AuditContext) -> list[str]:
    """Every note in the directory outside the database."""
    return [note for notes_of in context.directory.files() for note in notes_of()]


async def verify_now(context: AuditContext, *, whole: bool = False) -> dict[str, Any]:
    """Queue the regular verification as if its time had come, run it, and give its report."""
    whole_every = timedelta() if whole else timedelta(days=1)
    async with context.database.transaction() as conn:
        await commands.queue_verification(conn, context.verifier_keys, every=timedelta(), whole_every=whole_every)
    await verify_queued(context)
    async with context.database.connection() as conn:
        last = await commands.find_result(conn, context.verifier_keys)
    assert last is not None
    return {**last["report"], "whole": last["whole"]}


def named(report: Report) -> set[tuple[str, int]]:
    return {(finding.kind.value, finding.seq) for finding in report.findings}


async def rehash(owner: Owner, first: int, prev: bytes | None = None) -> None:
    """Make the chain whole again from a place on, head included, as somebody would who has read our code."""
    prev = prev or await owner.fetchval("SELECT hash FROM records WHERE seq = $1", first - 1)
    for row in await owner.fetch("SELECT seq, payload FROM records WHERE seq >= $1 ORDER BY seq", first):
        record_hash = link_hash(row["seq"], prev, row["payload"])
        await owner.execute(
            "UPDATE records SET prev_hash = $2, hash = $3 WHERE seq = $1", row["seq"], prev, record_hash
        )
        prev = record_hash
    await owner.execute("UPDATE chain_head SET hash = $1", prev)
