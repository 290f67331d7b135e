"""Sealing into a real table: exactly once, in order, under one lock."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import asyncpg
import pytest

from services.audit import commands, store
from services.audit.context import AuditContext
from services.audit.domain.canonical import canonical
from services.audit.domain.chain import Head
from services.audit.domain.records import draft
from shared.db import Connection
from tests.audit.material import a_signed_checkpoint, an_arrival, kept_outside, sealed, verified, verify_now
from tests.support.databases import FreshDatabase


async def test_an_event_that_never_arrived_is_named(context: AuditContext) -> None:
    await sealed(context, an_arrival(sequence=1), an_arrival(sequence=3))
    assert [(finding.kind, finding.seq) for finding in (await verified(context)).findings] == [("SOURCE_GAP", 2)]


async def test_canonical_bytes_come_back_from_postgres_unchanged(context: AuditContext) -> None:
    await sealed(context, an_arrival(data={"details": {"text": "İı\u2028\0😀", "n": 2**60}}))
    async with context.database.connection() as conn:
        (record,) = await store.list_stretch(conn, first=1, last=1)
    assert canonical(record.content()) == record.payload


async def test_the_same_event_twice_in_a_batch_and_again_later_is_one_record(context: AuditContext) -> None:
    arrival = an_arrival()
    assert len(await sealed(context, arrival, arrival)) == 1
    assert await sealed(context, arrival) == []
    assert (await verified(context)).records == 1


async def test_twenty_sealers_at_once_make_one_chain(context: AuditContext) -> None:
    await asyncio.gather(*[sealed(context, an_arrival(sequence=number)) for number in range(1, 21)])
    report = await verified(context)
    assert (report.records, report.findings) == (20, [])


async def test_a_sealer_that_dies_before_its_commit_leaves_no_trace(context: AuditContext) -> None:
    await sealed(context, an_arrival(sequence=1))
    async with context.database.connection() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await commands.seal(conn, [draft(an_arrival(sequence=2), context.personal_data)])
        await transaction.rollback()
    await sealed(context, an_arrival(sequence=2))
    report = await verified(context)
    assert (report.records, report.last_seq, report.findings) == (2, 2, [])


async def test_two_records_can_not_follow_the_same_one(context: AuditContext, fresh: FreshDatabase) -> None:
    await sealed(context, an_arrival(sequence=1), an_arrival(sequence=2))
    owner = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": "audit"})
    try:
        partition = await owner.fetchval("SELECT tableoid::regclass::text FROM records LIMIT 1")
        with pytest.raises(asyncpg.UniqueViolationError, match="no_fork"):
            await owner.execute(
                f"""INSERT INTO records SELECT 99, prev_hash, hash, payload, event_id, service, occurred_at,
                    recorded_at, actor_id, action, target, outcome, severity, request_id, on_behalf_of
                    FROM {partition} WHERE seq = 2"""  # noqa: S608  the name comes from the catalog
            )
    finally:
        await owner.close()


async def test_partitions_are_made_ahead_of_time_and_once(context: AuditContext) -> None:
    async with context.database.transaction() as conn:
        before = await store.list_partitions(conn)
        made = await commands.make_partitions(conn, 5)
        assert await commands.make_partitions(conn, 5) == []
        assert sorted([*before, *made]) == sorted(await store.list_partitions(conn))
        months = await conn.fetch(
            """SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead), 'YYYY_MM')
               FROM generate_series(0, 5) AS ahead"""
        )
    assert len(made) >= 2
    assert {f"records_{month}" for (month,) in months} <= {*before, *made}, "of this month and the five to come"


async def test_a_checkpoint_is_signed_even_when_nothing_happened_and_once_per_interval(context: AuditContext) -> None:
    async with context.database.transaction() as conn:
        first = await commands.take_checkpoint(conn, context.signing_key, every=timedelta(seconds=50))
        again = await commands.take_checkpoint(conn, context.signing_key, every=timedelta(seconds=50))
    assert first is not None
    assert (first.seq, first.number, again) == (0, 1, None)
    await a_signed_checkpoint(context)
    assert len(kept_outside(context)) == 2
    assert (await verified(context)).findings == []


async def test_checkpoints_that_missed_the_directory_are_copied_later(context: AuditContext) -> None:
    await a_signed_checkpoint(context)
    async with context.database.transaction() as conn:
        for _ in range(3):
            await commands.take_checkpoint(conn, context.signing_key, every=timedelta())
    await a_signed_checkpoint(context)
    assert len(kept_outside(context)) == 5
    assert context.directory.last_number() == 5


async def test_after_a_clock_was_wrong_checkpoints_are_copied_once_and_no_alarm_is_raised(
    context: AuditContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_time = store.lock_head

    async def ahead(conn: Connection) -> tuple[Head, datetime]:
        head, now = await on_time(conn)
        return head, now + timedelta(days=1)

    await sealed(context, an_arrival())
    await a_signed_checkpoint(context)
    with monkeypatch.context() as wrong:
        wrong.setattr(store, "lock_head", ahead)
        await a_signed_checkpoint(context)
    await a_signed_checkpoint(context)
    reports = [await verify_now(context, whole=True)]
    await a_signed_checkpoint(context)
    reports.append(await verify_now(context))
    async with context.database.connection() as conn:
        assert await commands.copy_checkpoints(conn, context.directory, context.verifier_keys) == 0
    assert len(kept_outside(context)) == 4
    assert [report["findings"] for report in reports] == [[], []]


async def test_personal_data_is_not_readable_in_the_database(context: AuditContext) -> None:
    await sealed(context, an_arrival())
    async with context.database.connection() as conn:
        for table in ("records", "personal_keys"):
            rows = await conn.fetch(f"SELECT * FROM {table}")  # noqa: S608  our own words
            assert b"5421396386" not in repr([dict(row) for row in rows]).encode()


async def test_a_record_is_found_by_its_event(context: AuditContext) -> None:
    arrival = an_arrival()
    await sealed(context, an_arrival(), arrival)
    async with context.database.connection() as conn:
        record = await store.find_record(conn, arrival.event_id)
    assert record is not None
    assert record.seq == 2
