"""The worker verifies by itself: what is new every few minutes, the whole log once in a while."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson

from services.audit import store
from services.audit.context import AuditContext
from services.audit.worker import queue_verification, sign_checkpoint, verify_queued
from tests.audit.material import a_signed_checkpoint, an_arrival, kept_outside, sealed, verify_now
from tests.support.databases import FreshDatabase


def named(report: dict[str, Any]) -> list[tuple[str, int]]:
    return [(finding["kind"], finding["seq"]) for finding in report["findings"]]


async def as_owner(fresh: FreshDatabase, *statements: str) -> None:
    owner = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": "audit"})
    await owner.execute("SET session_replication_role = replica")
    for statement in statements:
        await owner.execute(statement)
    await owner.close()


async def test_the_first_one_is_whole_and_the_next_ones_go_on_from_there(context: AuditContext) -> None:
    await sealed(context, *[an_arrival(sequence=number) for number in (1, 2, 3)])
    await a_signed_checkpoint(context)
    first = await verify_now(context)
    assert (first["whole"], first["first_seq"], first["records"], first["checkpoints"]) == (True, 1, 3, 1)
    await sealed(context, an_arrival(sequence=4), an_arrival(sequence=5))
    await a_signed_checkpoint(context)
    second = await verify_now(context)
    assert (second["whole"], second["first_seq"], second["records"], second["checkpoints"]) == (False, 4, 2, 1)
    third = await verify_now(context)
    assert (third["ok"], third["records"]) == (True, 0)
    again = await verify_now(context, whole=True)
    assert (again["whole"], again["records"], again["ok"]) == (True, 5, True)


async def test_a_tail_that_was_cut_between_two_is_named_by_the_second(
    context: AuditContext, fresh: FreshDatabase
) -> None:
    await sealed(context, *[an_arrival(sequence=number) for number in (1, 2, 3)])
    await verify_now(context)
    await as_owner(
        fresh,
        "DELETE FROM records WHERE seq > 1",
        "UPDATE chain_head SET seq = 1, hash = (SELECT hash FROM records WHERE seq = 1)",
    )
    assert named(await verify_now(context)) == [("TAIL_SHORT", 2)]


async def test_old_records_that_were_changed_later_are_named_by_the_next_whole_one(
    context: AuditContext, fresh: FreshDatabase
) -> None:
    await sealed(context, *[an_arrival(sequence=number) for number in (1, 2, 3)])
    await verify_now(context)
    await as_owner(fresh, "UPDATE records SET actor_id = 7 WHERE seq = 2")
    assert named(await verify_now(context)) == []
    assert named(await verify_now(context, whole=True)) == [("COLUMN", 2)]


async def test_after_a_finding_the_next_one_starts_from_the_last_good_one(
    context: AuditContext, fresh: FreshDatabase
) -> None:
    await sealed(context, an_arrival(sequence=1))
    await verify_now(context)
    await sealed(context, an_arrival(sequence=2))
    await as_owner(fresh, "UPDATE records SET actor_id = 7 WHERE seq = 2")
    for _ in range(2):
        assert named(await verify_now(context)) == [("COLUMN", 2)]


async def test_a_finding_is_recorded_as_critical_and_a_quiet_regular_one_is_not_recorded(
    context: AuditContext, fresh: FreshDatabase
) -> None:
    await sealed(context, an_arrival(sequence=1))
    await verify_now(context)
    await verify_now(context)
    await sealed(context, an_arrival(sequence=2))
    await as_owner(fresh, "UPDATE records SET actor_id = 7 WHERE seq = 2")
    await verify_now(context)
    async with context.database.connection() as conn:
        rows = await conn.fetch("SELECT envelope FROM outbox ORDER BY id")
    whole, bad = (orjson.loads(row["envelope"])["data"] for row in rows)
    assert (whole["action"], whole["outcome"]) == ("audit.verification.completed", "success")
    assert (bad["outcome"], bad["severity"]) == ("failure", "critical")
    assert bad["details"]["first_findings"] == ["COLUMN 2"]


async def test_nothing_is_queued_before_its_time_or_twice(context: AuditContext) -> None:
    await queue_verification(context)
    await queue_verification(context)
    async with context.database.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM verifications") == 1
    await verify_queued(context)
    await queue_verification(context)
    async with context.database.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM verifications") == 1


async def test_the_workers_checkpoint_is_in_the_table_and_outside(context: AuditContext) -> None:
    await sign_checkpoint(context)
    await sign_checkpoint(context)
    async with context.database.connection() as conn:
        row = await store.get_last_checkpoint(conn)
    assert kept_outside(context) == [row["note"]]
