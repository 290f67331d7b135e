"""Whole months leave the log only exported and verified; what stays is still provable, and so is what left."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import orjson
import pytest

from services.audit import commands, store
from services.audit.checkpoint_directory import Archive, read_export
from services.audit.commands.verification import Scope
from services.audit.context import AuditContext
from services.audit.domain.findings import Kind, Report
from services.audit.domain.months import LogNotWhole, Month, NothingToPrune, whole_months_before
from services.audit.domain.offline import verify_export
from shared.db import Database
from shared.events.audit import Actor
from tests.audit.material import verified
from tests.audit.processes import run
from tests.support.databases import FreshDatabase
from tests.support.eventually import eventually
from tests.system.matrix.page import promises

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {kind.value for kind in Kind}


def named(report: Report) -> set[str]:
    return {finding.kind.value for finding in report.findings}


async def test_whole_months_are_exported_verified_and_dropped(
    context: AuditContext, months: dict[str, str], tmp_path: Path
) -> None:
    code, text = await run(months, "prune", "--before", "2026-03-15", "--archive", str(tmp_path / "archive"))
    assert (code, text.splitlines()[-1]) == (
        0,
        f"dropped 2026-01, 2026-02: records 1 to 6, 6 exported to {tmp_path / 'archive'}",
    )
    report = await verified(context)
    assert (report.findings, report.first_seq, report.records) == ([], 7, 5)
    async with context.database.connection() as conn:
        envelope = orjson.loads(await conn.fetchval("SELECT envelope FROM outbox"))
    record, promise = envelope["data"], promises()["audit.retention.pruned"]
    assert record["action"] == "audit.retention.pruned"
    assert (record["actor"]["kind"], record["outcome"], record["severity"]) == ("operator", "success", "warning")
    assert promise.details <= record["details"].keys()
    assert record["details"]["months"] == ["2026-01", "2026-02"]
    key = context.signing_key.verifier
    for name in ("2026-01", "2026-02"):
        exported = verify_export(read_export(tmp_path / "archive" / f"audit-{name}.ndjson.gz"), [key])
        assert (exported.ok, exported.records) == (True, 3)
    code, text = await run(
        months, "verify-export", str(tmp_path / "archive" / "audit-2026-01.ndjson.gz"), "--key", key.text()
    )
    assert (code, text.split(":")[0]) == (0, "OK")


async def test_pruning_goes_on_where_it_stopped(context: AuditContext, months: dict[str, str], tmp_path: Path) -> None:
    for day, first in (("2026-02-01", 4), ("2026-04-01", 10)):
        assert (await run(months, "prune", "--before", day, "--archive", str(tmp_path)))[0] == 0
        assert (await verified(context)).first_seq == first
        assert (await verified(context)).ok


async def test_what_was_dropped_can_not_be_called_whole(months: dict[str, str], tmp_path: Path) -> None:
    assert (await run(months, "prune", "--before", "2026-02-15", "--archive", str(tmp_path)))[0] == 0
    code, text = await run(months, "verify", "--from", "1", "--to", "3")
    assert (code, text.strip()) == (2, "The log can't be verified: There is no record up to 3: the log begins at 4.")
    code, text = await run(months, "verify", "--from", "1", "--to", "4")
    assert (code, text.split(",")[0]) == (0, "OK: records 4 to 4")


async def test_months_are_read_back_however_long_that_takes(
    context: AuditContext, months: dict[str, str], tmp_path: Path
) -> None:
    owner = Database(months["OWNER_DATABASE_URL"], schema="audit", pool_size=1)
    scope = Scope(context.verifier_keys, context.personal_data)
    async with owner.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        plan = await commands.plan_pruning(conn, datetime(2026, 2, 15, tzinfo=UTC).date(), scope)
        assert await commands.export_months(conn, plan, Archive(tmp_path), context.signing_key) == 3
        # A million records take longer than an ordinary transaction may idle.
        assert await conn.fetchval("SHOW idle_in_transaction_session_timeout") == "0"
    await owner.close()


async def test_a_log_that_does_not_verify_loses_nothing(
    context: AuditContext, months: dict[str, str], fresh: FreshDatabase, tmp_path: Path
) -> None:
    owner = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": "audit"})
    await owner.execute("SET session_replication_role = replica")
    await owner.execute("UPDATE records SET actor_id = 7 WHERE seq = 2")
    await owner.close()
    code, text = await run(months, "prune", "--before", "2026-03-01", "--archive", str(tmp_path))
    assert code == 1
    assert "COLUMN at 2" in text
    assert (await verified(context)).records == 11


async def test_months_whose_archive_can_not_be_written_are_not_dropped(
    context: AuditContext, months: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    code, text = await run(months, "prune", "--before", "2026-03-01", "--archive", str(file))
    assert (code, text.startswith("Nothing was changed: "), "Traceback" in text) == (1, True, False), text
    assert (await verified(context)).records == 11


async def test_the_month_at_hand_is_never_dropped(
    months: dict[str, str], context: AuditContext, tmp_path: Path
) -> None:
    assert (await run(months, "prune", "--before", "2100-01-01", "--archive", str(tmp_path)))[0] == 0
    assert (await verified(context)).records == 2


async def test_no_month_is_dropped_under_the_eyes_of_a_verification(
    context: AuditContext, months: dict[str, str], tmp_path: Path
) -> None:
    command = ("prune", "--before", "2026-02-15", "--archive", str(tmp_path))
    async with context.database.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        await store.hold_months(conn)
        code, text = await run(months, *command)
        assert (code, "Try again when that is over" in text) == (1, True)
    assert (await verified(context)).records == 11
    assert (await run(months, *command))[0] == 0
    assert (await verified(context)).records == 8


async def test_a_verification_that_begins_while_months_are_dropped_sees_them_dropped(
    context: AuditContext, months: dict[str, str], fresh: FreshDatabase
) -> None:
    owner = Database(months["OWNER_DATABASE_URL"], schema="audit", pool_size=1)
    scope = Scope(context.verifier_keys, context.personal_data)
    async with owner.transaction() as conn:
        plan = await commands.plan_pruning(conn, datetime(2026, 2, 15, tzinfo=UTC).date(), scope)
    async with owner.transaction() as conn:
        operator = Actor(kind="operator")
        await commands.drop_months(conn, plan, context.signing_key, exported=3, operator=operator, origin={})
        verification = asyncio.create_task(verified(context))
        await eventually(lambda: _somebody_waits(fresh), what="a verification that waits for the lock")
    await owner.close()
    assert (await verification).findings == []


async def _somebody_waits(fresh: FreshDatabase) -> bool:
    async with fresh.database.connection() as conn:
        return bool(await conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_months_that_changed_after_their_export_are_not_dropped(
    context: AuditContext, months: dict[str, str]
) -> None:
    owner = Database(months["OWNER_DATABASE_URL"], schema="audit", pool_size=1)
    async with owner.connection() as conn:
        async with conn.transaction():
            scope = Scope(context.verifier_keys, context.personal_data)
            plan = await commands.plan_pruning(conn, datetime(2026, 2, 15, tzinfo=UTC).date(), scope)
        operator, late = Actor(kind="operator"), replace(plan, last=plan.last - 1)
        with pytest.raises(LogNotWhole, match="other records than were exported"):
            async with conn.transaction():
                await commands.drop_months(conn, late, context.signing_key, exported=3, operator=operator, origin={})
    await owner.close()
    assert (await verified(context)).records == 11


@pytest.mark.usefixtures("months")
async def test_dropping_months_by_hand_is_named(context: AuditContext, fresh: FreshDatabase) -> None:
    owner = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": "audit"})
    await owner.execute("DROP TABLE records_2026_01")
    async with context.database.connection() as conn:
        head = await store.get_head(conn)
    await owner.execute(
        "INSERT INTO prunings (last_seq, note) VALUES (3, $1)",
        f"partner-hub/audit/{head.chain_id}/pruned\n3\nforged\n\n",
    )
    await owner.close()
    assert {"GAP", "CHECKPOINT_SIG"} <= named(await verified(context))


@pytest.mark.parametrize(
    ("day", "expected"), [("2026-01-31", []), ("2026-02-01", ["2026-01"]), ("2027-01-01", ["2026-01"])]
)
def test_only_months_that_are_over_are_chosen(day: str, expected: list[str]) -> None:
    now = JANUARY + timedelta(days=40)
    partitions = ["records_2026_02", "records_2026_01", "records_2026_12"]
    try:
        chosen = whole_months_before(partitions, datetime.fromisoformat(day).date(), now)
    except NothingToPrune:
        chosen = []
    assert [month.name for month in chosen] == expected


def test_december_is_followed_by_january() -> None:
    assert Month.of_partition("records_2026_12").until == datetime(2027, 1, 1, tzinfo=UTC)


CHANGES: list[tuple[int, Callable[[bytes], bytes], str]] = [
    (2, lambda text: text.replace(b"success", b"failure"), "HASH"),
    (2, lambda _: b"", "GAP"),
    (3, lambda _: b"", "TAIL_SHORT"),
    (4, lambda _: b"", "TAIL_SHORT"),
    (2, lambda _: b"not json\n", "HASH"),
    (0, lambda text: text.replace(b"time 2026", b"time 2025"), "CHECKPOINT_SIG"),
]


async def test_a_changed_export_is_named(context: AuditContext, months: dict[str, str], tmp_path: Path) -> None:
    await run(months, "prune", "--before", "2026-02-01", "--archive", str(tmp_path))
    exported = gzip.decompress((tmp_path / "audit-2026-01.ndjson.gz").read_bytes()).splitlines(keepends=True)
    assert len(exported) == 5
    assert named(verify_export(exported, [context.signing_key.verifier])) == set()
    for number, change, kind in CHANGES:
        lines = [*exported[:number], change(exported[number]), *exported[number + 1 :]]
        assert lines != exported
        assert kind in named(verify_export(lines, [context.signing_key.verifier])), (number, kind)
