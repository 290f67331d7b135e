"""The owner of the database tries to change the log; verify names each attempt. The service itself can't even try."""

from __future__ import annotations

import asyncpg
import pytest

from services.audit import store
from services.audit.context import AuditContext
from services.audit.domain.chain import extend, link_hash
from services.audit.domain.checkpoints import SigningKey, origin_of
from services.audit.domain.findings import Kind
from shared.db import Connection as Owner
from tests.audit.material import (
    NOW,
    a_checkpoint,
    a_content,
    an_arrival,
    named,
    rehash,
    sealed,
    verified,
)

pytestmark = pytest.mark.usefixtures("log_of_ten")


async def edited_payload(owner: Owner, seq: int) -> bytes:
    payload: bytes = await owner.fetchval("SELECT payload FROM records WHERE seq = $1", seq)
    return payload.replace(b'"outcome":"success"', b'"outcome":"failure"')


async def test_an_untouched_log_is_whole(context: AuditContext, log_of_ten: str) -> None:
    report = await verified(context, log_of_ten)
    assert (report.ok, report.records, report.checkpoints) == (True, 10, 1)


async def test_an_edited_payload_is_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute("UPDATE records SET payload = $1 WHERE seq = 4", await edited_payload(owner, 4))
    assert named(await verified(context)) == {("HASH", 4)}


@pytest.mark.parametrize(
    "change",
    [
        "actor_id = 7",
        "action = 'x'",
        "occurred_at = occurred_at - interval '1 day'",
        "on_behalf_of = NULL",
        "outcome = 'x'",
    ],
)
async def test_an_edited_column_is_named(context: AuditContext, owner: Owner, change: str) -> None:
    await owner.execute(f"UPDATE records SET {change} WHERE seq = 4")  # noqa: S608  our own words
    assert named(await verified(context)) == {("COLUMN", 4)}


async def test_a_deleted_record_is_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute("DELETE FROM records WHERE seq = 4")
    assert ("GAP", 4) in named(await verified(context))


async def test_a_deleted_tail_with_the_head_set_back_is_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute("DELETE FROM records WHERE seq > 8")
    await owner.execute("UPDATE chain_head SET seq = 8, hash = (SELECT hash FROM records WHERE seq = 8)")
    assert named(await verified(context)) == {("TAIL_SHORT", 9)}


async def test_a_deleted_tail_is_named_by_a_kept_checkpoint_when_those_in_the_database_went_with_it(
    context: AuditContext, log_of_ten: str, owner: Owner
) -> None:
    await owner.execute("DELETE FROM records WHERE seq > 8")
    await owner.execute("UPDATE chain_head SET seq = 8, hash = (SELECT hash FROM records WHERE seq = 8)")
    await owner.execute("DELETE FROM checkpoints")
    for file in context.settings.checkpoint_dir.iterdir():
        file.unlink()
    assert named(await verified(context)) == set()
    assert named(await verified(context, log_of_ten)) == {("TAIL_SHORT", 9), ("GAP", 10)}


async def test_a_rehashed_history_is_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute(
        "UPDATE records SET payload = $1, outcome = 'failure' WHERE seq = 4", await edited_payload(owner, 4)
    )
    await rehash(owner, 4)
    assert named(await verified(context)) == {("FORK", 10)}


async def test_two_swapped_records_are_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute("UPDATE records SET seq = CASE seq WHEN 3 THEN -7 WHEN 7 THEN -3 END WHERE seq IN (3, 7)")
    await owner.execute("UPDATE records SET seq = -seq WHERE seq < 0")
    assert {("HASH", 3), ("HASH", 7)} <= named(await verified(context))


async def test_a_record_inserted_into_a_taken_place_is_named(context: AuditContext, owner: Owner) -> None:
    partition = await owner.fetchval("SELECT tableoid::regclass::text FROM records LIMIT 1")
    await owner.execute(f"ALTER TABLE {partition} DROP CONSTRAINT {partition}_pkey")
    await owner.execute(f"ALTER TABLE {partition} DROP CONSTRAINT {partition}_no_fork")
    await owner.execute("INSERT INTO records SELECT * FROM records WHERE seq = 4")
    assert ("FORK", 4) in named(await verified(context))


async def test_a_record_inserted_behind_the_end_is_named(context: AuditContext) -> None:
    async with context.database.connection() as conn:
        head = await store.get_head(conn)
        (forged,) = extend(head, [a_content()], NOW)
    await _insert_forged(context, forged)
    assert named(await verified(context)) == {("FORK", 11)}


async def test_a_record_inserted_at_the_end_with_the_head_is_named_when_its_number_is_taken(
    context: AuditContext, owner: Owner
) -> None:
    async with context.database.connection() as conn:
        head = await store.get_head(conn)
    (forged,) = extend(head, [a_content(service="invitations", type="invitations.audit.recorded.v1", sequence=11)], NOW)
    await _insert_forged(context, forged)
    await owner.execute("UPDATE chain_head SET seq = 11, hash = $1", forged.hash)
    await sealed(context, an_arrival(sequence=11))
    assert named(await verified(context)) == {("FORK", 12)}


async def _insert_forged(context: AuditContext, forged: object) -> None:
    async with context.database.transaction() as conn:
        await store.insert_records(conn, [forged])  # type: ignore[list-item]


async def plant(owner: Owner, seq: int | None, payload: bytes, prev: bytes = b"") -> None:
    """Put a record of one's own anywhere."""
    for partition in await store.list_partitions(owner):
        await owner.execute(f"ALTER TABLE {partition} DROP CONSTRAINT {partition}_pkey")
    await owner.execute("ALTER TABLE records ALTER seq DROP NOT NULL, ALTER event_id DROP NOT NULL")
    await owner.execute(
        """INSERT INTO records SELECT $1, $2, $3, $4, NULL, service, occurred_at, recorded_at, actor_id, action, target,
           outcome, severity, request_id, on_behalf_of FROM records WHERE seq = 4""",
        seq,
        prev,
        link_hash(seq, prev, payload) if seq and seq > 0 else b"",
        payload,
    )


@pytest.mark.parametrize("seq", [None, -5, 0])
async def test_a_record_before_the_first_place_is_named(context: AuditContext, owner: Owner, seq: int | None) -> None:
    await plant(owner, seq, b"{}")
    assert ("FORK", seq or 0) in named(await verified(context))


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[]", b"null", b"\xff", b'{"actor":[],"id":"x"}', b"[" * 100_000, b'{"sequence":1e400}']
)
async def test_a_payload_that_is_no_record_stops_no_verification(
    context: AuditContext, owner: Owner, payload: bytes
) -> None:
    await owner.execute("UPDATE records SET payload = $1 WHERE seq = 4", payload)
    await owner.execute("UPDATE records SET actor_id = 7 WHERE seq = 8")
    await rehash(owner, 4)
    assert named(await verified(context)) == {("COLUMN", 4), ("COLUMN", 8), ("FORK", 10), ("SOURCE_GAP", 5)}


async def test_a_well_chained_record_that_no_producer_numbered_is_named(context: AuditContext, owner: Owner) -> None:
    async with context.database.connection() as conn:
        (forged,) = extend(await store.get_head(conn), [a_content(sequence=None)], NOW)
    await _insert_forged(context, forged)
    await owner.execute("UPDATE chain_head SET seq = 11, hash = $1", forged.hash)
    await sealed(context, an_arrival(sequence=11))
    assert named(await verified(context)) == {("FORK", 11)}


async def test_a_forged_checkpoint_is_named(context: AuditContext, owner: Owner) -> None:
    async with context.database.connection() as conn:
        head = await store.get_head(conn)
    forged = SigningKey.generate().sign(a_checkpoint(10, head.hash, origin=origin_of(head.chain_id)))
    await owner.execute("UPDATE checkpoints SET note = $1", forged)
    assert named(await verified(context)) == {("CHECKPOINT_SIG", 10)}


async def test_a_kept_checkpoint_of_another_history_is_named(context: AuditContext) -> None:
    async with context.database.connection() as conn:
        head = await store.get_head(conn)
    other = context.signing_key.sign(a_checkpoint(4, b"\x01" * 32, origin=origin_of(head.chain_id)))
    assert named(await verified(context, other)) == {("FORK", 4)}


async def test_a_checkpoint_removed_from_the_database_is_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute("DELETE FROM checkpoints")
    assert named(await verified(context)) == {("GAP", 10)}


async def test_a_log_that_was_started_anew_is_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute("TRUNCATE records, checkpoints, seen_events")
    await owner.execute("UPDATE chain_head SET seq = 0, chain_id = gen_random_uuid(), hash = $1", bytes(32))
    assert named(await verified(context)) == {("FORK", 10)}


async def test_a_removed_head_is_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute("DELETE FROM chain_head")
    assert Kind.TAIL_SHORT in {finding.kind for finding in (await verified(context)).findings}


async def test_a_part_of_the_log_is_verified_by_itself(context: AuditContext, owner: Owner) -> None:
    await owner.execute("UPDATE records SET payload = $1 WHERE seq = 4", await edited_payload(owner, 4))
    assert named(await verified(context, first=2, last=6)) == {("HASH", 4)}
    assert (await verified(context, first=5)).ok
    assert (await verified(context, last=3)).ok


@pytest.mark.parametrize("attempt", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_services_own_role_can_not_change_what_is_written(context: AuditContext, attempt: str) -> None:
    columns = {"records": "seq", "seen_events": "seq", "checkpoints": "number", "prunings": "last_seq"}
    columns["acknowledgements"] = "seq"
    async with context.database.connection() as conn:
        columns[await _partition(conn)] = "seq"
        for table, column in columns.items():
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(attempt.format(table, column, column))


async def test_the_services_own_role_has_no_more_rights_than_it_needs(context: AuditContext) -> None:
    """The triggers are the second lock; this is the first."""
    expected = {
        "records": {"SELECT", "INSERT"},
        "seen_events": {"SELECT", "INSERT"},
        "checkpoints": {"SELECT", "INSERT"},
        "acknowledgements": {"SELECT", "INSERT"},
        "prunings": {"SELECT"},
        "chain_head": {"SELECT", "UPDATE"},
        "personal_keys": {"SELECT", "INSERT", "DELETE"},
    }
    async with context.database.connection() as conn:
        for table in [*expected, *await store.list_partitions(conn)]:
            rights = await conn.fetchval(
                "SELECT array_agg(name) FROM unnest($2::text[]) AS name WHERE has_table_privilege($1, name)",
                table,
                ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
            )
            assert set(rights or []) == expected.get(table, set()), table


@pytest.mark.parametrize("attempt", ["UPDATE {} SET seq = 0", "DELETE FROM {}", "TRUNCATE {}"])
async def test_even_a_role_with_every_right_is_refused_by_the_triggers(owner: Owner, attempt: str) -> None:
    await owner.execute("SET session_replication_role = origin")
    for table in ("records", await _partition(owner)):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(attempt.format(table))


_LOCKS = (
    "ALTER TABLE records DISABLE TRIGGER ALL",
    "ALTER TABLE {partition} DISABLE TRIGGER ALL",
    "ALTER TABLE records DETACH PARTITION {partition}",
    "ALTER TABLE {partition} NO INHERIT records",
    "ALTER TABLE records OWNER TO CURRENT_USER",
    "DROP TABLE records",
    "DROP TABLE {partition}",
    "DROP TRIGGER append_only ON records",
    "DROP TRIGGER append_only ON {partition}",
    "CREATE RULE nothing AS ON INSERT TO records DO INSTEAD NOTHING",
    "INSERT INTO {partition} SELECT * FROM records LIMIT 1",
    "INSERT INTO prunings (last_seq, note) VALUES (1, '')",
    "DELETE FROM chain_head",
    "TRUNCATE records CASCADE",
    "SET session_replication_role = replica",
    "SELECT leave_only('records', 'ALL')",
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "DELETE FROM records",
)


async def test_the_services_own_role_can_not_open_the_locks(context: AuditContext) -> None:
    async with context.database.connection() as conn:
        partition = await _partition(conn)
        for attempt in _LOCKS:
            try:
                await conn.execute(attempt.format(partition=partition))
            except asyncpg.InsufficientPrivilegeError:
                continue
            # REVOKE and GRANT by somebody without rights only warn; the last attempt shows that nothing changed.
            assert attempt.startswith("SELECT leave_only")


async def _partition(conn: Owner) -> str:
    name: str = await conn.fetchval("SELECT tableoid::regclass::text FROM records LIMIT 1")
    return name
