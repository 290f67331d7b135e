"""Every command of the runbook is run, and prints what the runbook says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from services.audit.context import AuditContext
from shared import topology
from shared.bus import ladder
from shared.events import InvitationsAudit
from tests.audit.arrivals import an_audit_event, in_the_log
from tests.audit.material import a_signed_checkpoint, an_arrival, sealed
from tests.audit.processes import a_worker
from tests.support.databases import FreshDatabase
from tests.support.eventually import eventually
from tests.support.messages import depth, publishing
from tests.support.runbooks import assert_printed, sections

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbooks" / "audit-verification.md"


@dataclass
class Bench:
    """What a situation is made with."""

    context: AuditContext
    fresh: FreshDatabase
    broker: str
    environment: dict[str, str]
    folder: Path

    async def as_owner(self, *statements: str) -> None:
        owner = await asyncpg.connect(self.fresh.owner_url, server_settings={"search_path": "audit"})
        await owner.execute("SET session_replication_role = replica")
        for statement in statements:
            await owner.execute(statement)
        await owner.close()


async def ten_records(bench: Bench) -> None:
    await sealed(bench.context, *[an_arrival(sequence=number) for number in range(1, 11)])
    (bench.folder / "kept.txt").write_text(await a_signed_checkpoint(bench.context))


async def two_were_changed(bench: Bench) -> None:
    await ten_records(bench)
    await bench.as_owner(
        "UPDATE records SET actor_id = 7 WHERE seq = 4",
        "UPDATE records SET payload = payload || ' ' WHERE seq = 7",
    )


async def one_never_arrived(bench: Bench) -> None:
    bench.environment["AUDIT_SOURCE_GRACE_SECONDS"] = "0"
    await sealed(bench.context, an_arrival(sequence=1), an_arrival(sequence=3))


async def one_is_a_dead_letter(bench: Bench) -> None:
    await one_never_arrived(bench)
    queue = next(queue for queue in topology.AUDIT_EVENTS if queue.binds == (InvitationsAudit,))
    letter = ladder.to_dead_letters(queue, an_audit_event(InvitationsAudit, 2), {}, RuntimeError("no room"))
    async with publishing(bench.broker) as publisher:
        await publisher.publish_one(letter)
    await eventually(lambda: _letters(bench), what="a dead letter")


async def _letters(bench: Bench) -> bool:
    return await depth(bench.broker, topology.dead_letters_of("audit")) == 1


async def an_older_backup_was_restored(bench: Bench) -> None:
    await sealed(bench.context, *[an_arrival(sequence=number) for number in range(1, 6)])
    await a_signed_checkpoint(bench.context)
    await sealed(bench.context, *[an_arrival(sequence=number) for number in range(6, 11)])
    await a_signed_checkpoint(bench.context)
    gone = "(SELECT event_id FROM records WHERE seq > 5)"
    await bench.as_owner(
        f"DELETE FROM personal_keys WHERE event_id IN {gone}",  # noqa: S608  our own words
        "DELETE FROM records WHERE seq > 5",
        "DELETE FROM seen_events WHERE seq > 5",
        "DELETE FROM checkpoints WHERE number > 1",
        "UPDATE chain_head SET seq = 5, hash = (SELECT hash FROM records WHERE seq = 5)",
    )


PRUNING = "The disk is full"
Situation = Callable[[Bench], Awaitable[None]]
SITUATIONS: dict[str, Situation] = {
    "Is it whole?": ten_records,
    "Something was done to it": two_were_changed,
    "An event never arrived": one_is_a_dead_letter,
    "An event is lost for good": one_never_arrived,
    "After a restore from a backup": an_older_backup_was_restored,
    "A person asks to be forgotten": ten_records,
    "Another signing key": ten_records,
}


def test_every_section_with_commands_is_tried() -> None:
    assert sections(RUNBOOK).keys() == SITUATIONS.keys() | {PRUNING}


class Shell:
    """One shell for the commands of a section, as an operator has one."""

    _MARK = "@@ end of command"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, line: str) -> str:
        """Run a command and give what it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\necho '{self._MARK}'\n".encode())
        await self._process.stdin.drain()
        printed = ""
        async with asyncio.timeout(120):
            while not printed.endswith(f"{self._MARK}\n"):
                read = await self._process.stdout.readline()
                assert read, f"the shell ended: {printed}"
                printed += read.decode()
        return printed.removesuffix(f"{self._MARK}\n")


@asynccontextmanager
async def a_shell(folder: Path, environment: dict[str, str]) -> AsyncIterator[Shell]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = await asyncio.create_subprocess_exec(
        "bash",
        cwd=folder,
        env=environment | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Shell(process)
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("title", SITUATIONS)
async def test_the_commands_of_a_section_print_what_it_says(
    title: str, context: AuditContext, fresh: FreshDatabase, broker: str, environment: dict[str, str], tmp_path: Path
) -> None:
    await SITUATIONS[title](Bench(context, fresh, broker, environment, tmp_path))
    await assert_prints_what_it_says(title, context, environment, tmp_path)


async def test_the_commands_for_a_full_disk_print_what_the_runbook_says(
    context: AuditContext, months: dict[str, str], tmp_path: Path
) -> None:
    await assert_prints_what_it_says(PRUNING, context, months, tmp_path)


async def assert_prints_what_it_says(
    title: str, context: AuditContext, environment: dict[str, str], folder: Path
) -> None:
    async with a_shell(folder, environment) as shell:
        for step in sections(RUNBOOK)[title]:
            assert_printed(step, await shell.run(step[0]))
            if "redrive" in step[0]:
                with a_worker(environment):
                    await in_the_log(context, 3)
