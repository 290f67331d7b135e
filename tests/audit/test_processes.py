"""Real processes: the worker killed at each step, and the operator's commands with their exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import asyncpg
import orjson
import pytest

from services.audit import commands
from services.audit.context import AuditContext
from shared import topology
from shared.events import AuditAudit, AuthAudit, InvitationsAudit
from tests.audit.arrivals import QUEUE, an_audit_event, count, in_the_log
from tests.audit.killed_worker import STEPS
from tests.audit.material import a_signed_checkpoint, an_arrival, kept_outside, sealed, verified
from tests.audit.processes import a_worker, process, run
from tests.support.databases import FreshDatabase
from tests.support.eventually import eventually
from tests.support.messages import depth, publishing, to_queue

_KILLS = 6


@pytest.mark.parametrize("step", STEPS)
async def test_killed_right_after_a_step_the_next_worker_records_each_event_once(
    context: AuditContext, broker: str, environment: dict[str, str], step: str
) -> None:
    bodies = [an_audit_event(InvitationsAudit, number) for number in range(1, 51)]
    async with publishing(broker) as publisher:
        with process(environment, "tests.audit.killed_worker", step) as victim:
            await publisher.publish([to_queue(QUEUE, body) for body in bodies])
            assert await asyncio.to_thread(victim.wait, 60) == -9
        with process(environment, "services.audit", "worker"):
            await in_the_log(context, len(bodies))
            await publisher.publish_one(to_queue(QUEUE, an_audit_event(AuthAudit)))
            await in_the_log(context, len(bodies) + 1)
    assert await count(context) == len(bodies) + 1
    async with context.database.connection() as conn:
        keys = await conn.fetchval("SELECT count(*) FROM personal_keys")
    assert keys == len(bodies) + 1
    assert (await verified(context)).findings == []


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_two_workers_that_are_killed_in_turn_record_each_of_shuffled_redeliveries_once(
    context: AuditContext, broker: str, environment: dict[str, str]
) -> None:
    # Not audit's own: the workers number events of that kind, too.
    kinds = {queue: kind for queue in topology.AUDIT_EVENTS for kind in queue.binds if kind is not AuditAudit}
    once = [(queue.name, an_audit_event(kind, n)) for queue, kind in kinds.items() for n in range(1, 1001)]  # type: ignore[arg-type]
    deliveries = once * 3
    random.Random(6).shuffle(deliveries)
    share = len(deliveries) // (_KILLS + 1)
    async with publishing(broker) as publisher, contextlib.AsyncExitStack() as workers:
        running = [workers.enter_context(a_worker(environment)) for _ in range(2)]
        for turn in range(_KILLS + 1):
            due = deliveries[turn * share : (turn + 1) * share] if turn < _KILLS else deliveries[turn * share :]
            await publisher.publish([to_queue(queue, body) for queue, body in due])
            known = len({body for _, body in deliveries[: (turn + 1) * share]})
            await in_the_log(context, known - share // 4, within=120)
            if turn < _KILLS:
                running[turn % 2].kill()
                running[turn % 2] = workers.enter_context(a_worker(environment))
        await in_the_log(context, len(once), within=120)
        await eventually(lambda: _are_empty(broker), within=120, what="empty queues")
    assert await count(context) == len(once)
    report = await verified(context)
    assert (report.findings, report.last_seq) == ([], report.records)


async def _are_empty(broker: str) -> bool:
    return [await depth(broker, queue.name) for queue in topology.AUDIT_EVENTS] == [0] * len(topology.AUDIT_EVENTS)


async def test_the_worker_prints_lines_signs_checkpoints_and_verifies_by_itself(
    context: AuditContext, broker: str, environment: dict[str, str]
) -> None:
    lines = b""
    body = an_audit_event(
        InvitationsAudit,
        action="invitations.bulk.started_on_behalf",
        on_behalf_of=6,
        details={"count": 5, "channel": "SMS"},
    )
    async with publishing(broker) as publisher:
        with process(environment, "services.audit", "worker") as worker:
            await publisher.publish_one(to_queue(QUEUE, body))
            await in_the_log(context, 1)
            await eventually(lambda: _has_verified(context), what="a verification")
            await eventually(lambda: kept_outside(context), what="a checkpoint")
            worker.terminate()
            lines, _ = await asyncio.to_thread(worker.communicate, timeout=60)
            assert worker.returncode == 0
    text = lines.decode()
    assert '"message":"📤 ADMIN 166 creating 5 farmer invitations on behalf of sponsor 6 via SMS"' in text
    assert "partner-hub/audit/" in text, "the checkpoint goes to the log stream as well"


async def _has_verified(context: AuditContext) -> bool:
    async with context.database.connection() as conn:
        last = await commands.find_result(conn, context.verifier_keys)
    return last is not None and bool(last["ok"])


async def test_verify_says_ok_and_ends_with_zero(context: AuditContext, environment: dict[str, str]) -> None:
    await sealed(context, an_arrival(sequence=1), an_arrival(sequence=2))
    await a_signed_checkpoint(context)
    code, text = await run(environment, "verify")
    assert (code, text.strip()) == (0, "OK: records 1 to 2, 2 read, 1 checkpoints compared, 0 findings")


async def test_verify_names_what_was_done_and_ends_with_one(
    context: AuditContext, fresh: FreshDatabase, environment: dict[str, str], tmp_path: Path
) -> None:
    await sealed(context, *[an_arrival(sequence=number) for number in range(1, 6)])
    kept = tmp_path / "kept.txt"
    kept.write_text(await a_signed_checkpoint(context))
    owner = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": "audit"})
    await owner.execute("SET session_replication_role = replica")
    await owner.execute("DELETE FROM records WHERE seq > 3")
    await owner.execute("DELETE FROM checkpoints")
    await owner.execute("UPDATE chain_head SET seq = 3, hash = (SELECT hash FROM records WHERE seq = 3)")
    await owner.close()
    for file in context.settings.checkpoint_dir.iterdir():
        file.unlink()
    assert (await run(environment, "verify"))[0] == 0, "nothing outside the database remembers"
    code, text = await run(environment, "verify", "--checkpoint", str(kept))
    assert code == 1
    assert "TAIL_SHORT at 4: checkpoint 1 is signed for 5 records, 3 are left" in text
    assert (await run(environment, "verify", "--from", "1", "--to", "2"))[0] == 0


async def test_verify_reads_a_checkpoint_as_it_was_answered_and_does_not_take_any_file_for_one(
    context: AuditContext, environment: dict[str, str], tmp_path: Path
) -> None:
    await sealed(context, *[an_arrival(sequence=number) for number in range(1, 6)])
    kept = tmp_path / "latest.json"
    kept.write_bytes(orjson.dumps({"number": 1, "note": await a_signed_checkpoint(context)}))
    code, text = await run(environment, "verify", "--checkpoint", str(kept))
    assert (code, text.strip()) == (0, "OK: records 1 to 5, 5 read, 1 checkpoints compared, 0 findings")
    for content in (b"", b"{}", b"{", b"\xff"):
        kept.write_bytes(content)
        code, text = await run(environment, "verify", "--checkpoint", str(kept))
        assert (code, text.startswith("The log can't be verified: ")) == (2, True), text
    assert (await run(environment, "verify", "--checkpoint", str(tmp_path / "none.txt")))[0] == 2


async def test_verify_without_a_database_says_so_and_ends_with_two(environment: dict[str, str]) -> None:
    environment["AUDIT_DATABASE_URL"] = "postgresql://nobody:x@127.0.0.1:1/none"
    code, text = await run(environment, "verify")
    assert code == 2
    assert "can't be verified" in text


async def test_erase_names_its_count_and_needs_a_person(context: AuditContext, environment: dict[str, str]) -> None:
    await sealed(context, an_arrival(), an_arrival(sequence=2))
    code, text = await run(environment, "erase", "--phone", "05421396386", "--reason", "asked for")
    assert (code, text.splitlines()[-1]) == (0, "erased the personal data of 2 records")
    for nobody in ((), ("--email", ""), ("--phone", "05421396386", "--phone", " ")):
        code, text = await run(environment, "erase", *nobody, "--reason", "asked for")
        assert code == 1
        assert "Name the person" in text


async def test_under_a_legal_hold_nothing_leaves_the_log(context: AuditContext, environment: dict[str, str]) -> None:
    await sealed(context, an_arrival())
    held = environment | {"AUDIT_LEGAL_HOLD": "true"}
    for command in (
        ("erase", "--phone", "05421396386", "--reason", "asked for"),
        ("prune", "--before", "2026-01-01", "--archive", "/nowhere"),
    ):
        code, text = await run(held, *command)
        assert (code, "AUDIT_LEGAL_HOLD is on" in text) == (1, True)
    async with context.database.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM personal_keys WHERE subjects <> '{}'") == 1


async def test_a_signing_key_is_made_once_and_only_we_can_read_it(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    first = await run(environment, "create-key", str(path))
    again = await run(environment, "create-key", str(path))
    assert first == again
    assert first[1].startswith("partner-hub-audit+")
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_command_that_can_not_be_carried_out_says_why_in_one_line(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("no key, and no folder")
    environment["AUDIT_DATABASE_URL"] = environment["OWNER_DATABASE_URL"] = "postgresql://nobody:x@127.0.0.1:1/none"
    for command, words in (
        (("erase", "--phone", "05421396386", "--reason", "asked for"), "The database is not available"),
        (("acknowledge", "--kind", "HASH", "--reason", "tried it"), "The database is not available"),
        (("prune", "--before", "2026-01-01", "--archive", str(file)), "The database is not available"),
        (("create-key", str(file)), "can't be made or read as a key"),
        (("create-key", str(file / "key.pem")), "can't be made or read as a key"),
    ):
        code, text = await run(environment, *command)
        assert (code, words in text, text.count("\n")) == (1, True, 1), text


async def test_production_does_not_make_a_signing_key_by_itself(environment: dict[str, str]) -> None:
    environment |= {"ENVIRONMENT": "production", "AUDIT_SIGNING_KEY_FILE": "/nowhere/key.pem"}
    code, text = await run(environment, "verify")
    assert code == 2
    assert "create-key" in text
    assert "Traceback" not in text
