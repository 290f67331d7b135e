"""The owner tampers with what stands beside the records: keys of personal data, checkpoints, results, notes, months."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.audit import commands, store
from services.audit.context import AuditContext
from services.audit.domain.checkpoints import FIRST, Checkpoint, SigningKey, origin_of
from shared.db import Connection as Owner
from tests.audit.material import NOW, a_signed_checkpoint, an_arrival, erase, named, sealed, verified

pytestmark = pytest.mark.usefixtures("log_of_ten")


def without_directory(context: AuditContext) -> None:
    for file in context.settings.checkpoint_dir.iterdir():
        file.unlink()


# --- personal data


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM personal_keys",
        "UPDATE personal_keys SET wrapped_key = (SELECT wrapped_key FROM personal_keys ORDER BY event_id LIMIT 1)",
        "UPDATE personal_keys SET wrapped_key = ''",
        "UPDATE personal_keys SET subjects = '{}'",
        "UPDATE personal_keys SET actor_id = 7",
    ],
)
async def test_a_key_of_personal_data_that_was_removed_or_changed_is_named(
    context: AuditContext, owner: Owner, change: str
) -> None:
    await owner.execute(change + " WHERE event_id = (SELECT event_id FROM records WHERE seq = 4)")  # noqa: S608  our own words
    assert named(await verified(context)) == {("PERSONAL_KEY", 4)}


async def test_keys_of_personal_data_that_were_swapped_are_both_named(context: AuditContext, owner: Owner) -> None:
    await owner.execute(
        """UPDATE personal_keys AS a SET wrapped_key = b.wrapped_key
           FROM personal_keys AS b, records AS ra, records AS rb
           WHERE a.event_id = ra.event_id AND b.event_id = rb.event_id AND (ra.seq, rb.seq) IN ((3, 7), (7, 3))"""
    )
    assert named(await verified(context)) == {("PERSONAL_KEY", 3), ("PERSONAL_KEY", 7)}


async def test_sealed_personal_data_that_was_swapped_between_records_is_named(
    context: AuditContext, owner: Owner
) -> None:
    third, seventh = [await owner.fetchval("SELECT payload FROM records WHERE seq = $1", seq) for seq in (3, 7)]
    mark = b'"personal":"'
    first, second = (payload.split(mark)[1].split(b'"')[0] for payload in (third, seventh))
    for seq, payload in ((3, third.replace(first, second)), (7, seventh.replace(second, first))):
        await owner.execute("UPDATE records SET payload = $2 WHERE seq = $1", seq, payload)
    assert named(await verified(context)) == {("HASH", 3), ("HASH", 7)}


async def test_an_erasure_is_no_tampering(context: AuditContext) -> None:
    await sealed(context, an_arrival(sequence=11, data={"personal": {"ip": "192.0.2.9"}}))
    erased = await erase(context)
    assert (erased, named(await verified(context))) == (10, set())


# --- where an event is found


@pytest.mark.parametrize("change", ["UPDATE seen_events SET seq = 5", "DELETE FROM seen_events"])
async def test_an_event_that_no_longer_leads_to_its_record_is_named(
    context: AuditContext, owner: Owner, change: str
) -> None:
    await owner.execute(f"{change} WHERE seq = 4")
    assert named(await verified(context)) == {("COLUMN", 4)}


# --- checkpoints


async def test_the_first_checkpoints_that_were_removed_are_named_by_the_later_ones(
    context: AuditContext, owner: Owner
) -> None:
    for _ in range(3):
        await a_signed_checkpoint(context)
    await owner.execute("DELETE FROM checkpoints WHERE number < 3")
    without_directory(context)
    assert named(await verified(context)) == {("GAP", 10)}


async def test_a_checkpoint_removed_from_the_middle_is_named(context: AuditContext, owner: Owner) -> None:
    for _ in range(3):
        await a_signed_checkpoint(context)
    await owner.execute("DELETE FROM checkpoints WHERE number = 2")
    without_directory(context)
    assert named(await verified(context)) == {("GAP", 10)}


async def test_a_genuine_checkpoint_in_the_place_of_another_is_named(context: AuditContext, owner: Owner) -> None:
    await a_signed_checkpoint(context)
    await owner.execute("UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE number = 1)")
    assert ("CHECKPOINT_SIG", 10) in named(await verified(context))


async def test_a_checkpoint_from_the_future_is_named_and_keeps_nobody_from_signing(
    context: AuditContext, owner: Owner
) -> None:
    await owner.execute(
        "INSERT INTO checkpoints SELECT number + 1, seq, now() + interval '1 year', note FROM checkpoints"
    )
    async with context.database.transaction() as conn:
        signed = await commands.take_checkpoint(conn, context.signing_key, every=timedelta(minutes=1))
    assert signed is not None
    assert ("CHECKPOINT_SIG", 10) in named(await verified(context))


async def test_what_a_crash_has_torn_is_no_tampering_and_is_written_anew(context: AuditContext) -> None:
    (file,) = context.settings.checkpoint_dir.iterdir()
    whole = file.read_bytes()
    second = await a_signed_checkpoint(context)
    for length in range(len(whole), len(file.read_bytes()), 97):
        file.write_bytes((whole + second.encode())[:length])
        assert named(await verified(context)) == set()
        await a_signed_checkpoint(context)
        assert named(await verified(context)) == set()
        assert second in file.read_text()


# --- months


async def test_a_detached_month_is_named(context: AuditContext, owner: Owner) -> None:
    month = await owner.fetchval("SELECT tableoid::regclass::text FROM records LIMIT 1")
    await owner.execute(f"ALTER TABLE records DETACH PARTITION {month}")
    assert named(await verified(context)) == {("TAIL_SHORT", 1)}


@pytest.mark.parametrize("kind", ["another key", "another log", "another place", "a checkpoint", "no note"])
async def test_a_forged_note_about_dropped_months_hides_nothing(context: AuditContext, owner: Owner, kind: str) -> None:
    await owner.execute("DELETE FROM records WHERE seq < 4")
    async with context.database.connection() as conn:
        origin = origin_of((await store.get_head(conn)).chain_id)
        last_hash = await store.find_hash(conn, 4)
    facts: dict[str, Any] = {"number": 0, "taken_at": NOW, "records": 0, "previous": FIRST}
    key, genuine = context.signing_key, Checkpoint(f"{origin}/pruned", 3, last_hash or b"", **facts)
    notes = {
        "another key": SigningKey.generate().sign(genuine),
        "another log": key.sign(replace(genuine, origin="partner-hub/audit/other/pruned")),
        "another place": key.sign(replace(genuine, seq=2)),
        "a checkpoint": key.sign(replace(genuine, origin=origin)),
        "no note": "records 1 to 3 were dropped, believe me",
    }
    await owner.execute("INSERT INTO prunings (last_seq, note) VALUES (3, $1)", notes[kind])
    assert {("CHECKPOINT_SIG", 3), ("GAP", 1)} <= named(await verified(context))
