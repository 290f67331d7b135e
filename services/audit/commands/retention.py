"""What leaves the log: a person, by throwing keys away; whole months, exported and verified before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from services.audit import store
from services.audit.checkpoint_directory import Archive, read_export
from services.audit.commands.verification import Scope, verify
from services.audit.domain.checkpoints import FIRST, Checkpoint, SigningKey, origin_of
from services.audit.domain.exports import frame_line, ndjson_line
from services.audit.domain.months import LogNotWhole, Month, NothingToPrune, whole_months_before
from services.audit.domain.offline import verify_export
from services.audit.domain.personal import PersonalData
from shared import audit
from shared.db import Connection
from shared.events import AuditAudit
from shared.events.audit import Actor


async def erase_person(
    conn: Connection,
    data: PersonalData,
    *,
    subjects: list[str],
    actor_id: int | None,
    reason: str,
    operator: Actor,
    origin: dict[str, str],
) -> int:
    """Throw away the keys of every record about these phones and e-mails, or of what an account did; gives how many.

    The sealed data stays in the chain as bytes that nobody can open any more. Copies in backups become unreadable
    with them once the backups of this one table have expired.
    """
    digests = [digest for subject in subjects for digest in data.search_digests(subject)]
    erased = await store.delete_personal_keys(conn, digests, actor_id)
    await store.insert_erased_keys(
        conn, [(event_id, recorded_at, data.erased(str(event_id))) for event_id, recorded_at in erased]
    )
    await audit.record(
        conn,
        AuditAudit,
        action="audit.personal_data.erased",
        actor=operator,
        reason=reason,
        severity="notice",
        details={"records": len(erased), **origin},
    )
    return len(erased)


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which months are to be dropped, and where the rest of the log will begin."""

    months: list[Month]
    first: int
    last: int
    head: bytes
    origin: str


async def plan_pruning(conn: Connection, day: date, scope: Scope) -> Pruning:
    """Choose the whole months before a day, and verify them; raises NothingToPrune, LogNotWhole.

    Runs in a REPEATABLE READ transaction of the owner.
    """
    await store.hold_months(conn)
    months = whole_months_before(await store.list_partitions(conn), day, await store.read_clock(conn))
    head = await store.get_head(conn)
    places = await store.find_places(conn, months[0].since, months[-1].until)
    if places is None:
        raise NothingToPrune
    report = await verify(conn, replace(scope, last=places[1]))
    if not report.ok:
        raise LogNotWhole(f"{LogNotWhole.message} First: {report.findings[0].words()}.")
    last_hash = await store.find_hash(conn, places[1])
    return Pruning(months, *places, last_hash or b"", origin_of(head.chain_id))


async def export_months(conn: Connection, plan: Pruning, archive: Archive, key: SigningKey) -> int:
    """Write each month into the archive, signed, and read it back; gives the number of records."""
    await store.hold_as_long_as_it_takes(conn)
    exported = 0
    for month in plan.months:
        places = await store.find_places(conn, month.since, month.until)
        if places is None:
            continue
        note = key.sign(_statement(plan.origin, places[1], await store.find_hash(conn, places[1]) or b""))
        facts = {"checkpoint": note, "verifier_key": key.verifier.text(), "last_seq": places[1], "filters": {}}
        count = 0
        with archive.month(month.name) as file:
            file.write(frame_line("first line", **facts))
            async for records in store.stream_records(conn, *places):
                count += len(records)
                file.write(b"".join(ndjson_line(record) for record in records))
            file.write(frame_line("last line", records=count, **facts))
        report = verify_export(read_export(archive.path_of(month.name)), [key.verifier])
        if not report.ok or report.records != places[1] - places[0] + 1:
            raise LogNotWhole(f"The export of {month.name} does not verify; nothing was dropped.")
        exported += count
    return exported


async def drop_months(
    conn: Connection, plan: Pruning, key: SigningKey, *, exported: int, operator: Actor, origin: dict[str, str]
) -> None:
    """Drop exported months; the signed note that stays is what the rest of the log now begins at.

    Raises LogInUse while somebody reads or verifies, LogNotWhole when the months are no longer what was exported.
    """
    # Before anything is locked: months of keys take their time, and nobody waits for them.
    await store.delete_personal_keys_before(conn, plan.months[-1].until)
    await store.lock_head(conn)
    if await store.find_places(conn, plan.months[0].since, plan.months[-1].until) != (plan.first, plan.last):
        raise LogNotWhole("The months hold other records than were exported; nothing was dropped.")
    await store.insert_pruning(conn, plan.last, key.sign(_statement(f"{plan.origin}/pruned", plan.last, plan.head)))
    await store.drop_partitions(conn, [month.partition for month in plan.months])
    await audit.record(
        conn,
        AuditAudit,
        action="audit.retention.pruned",
        actor=operator,
        severity="warning",
        details={
            "months": [month.name for month in plan.months],
            "first_seq": plan.first,
            "last_seq": plan.last,
            "records": exported,
            "head": plan.head.hex(),
            **origin,
        },
    )


def _statement(origin: str, seq: int, head: bytes) -> Checkpoint:
    """Make a checkpoint outside the regular series, which counts from one."""
    return Checkpoint(origin, seq, head, number=0, taken_at=datetime.now(UTC), records=0, previous=FIRST)
