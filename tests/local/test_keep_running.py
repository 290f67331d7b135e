"""A role that dies is started again; a role that is told to stop stays down."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import records, supervisor
from local.processes import ProcessId, eventually, spawn
from local.stack_file import describe, processes, restarts, stack_file

ROOT = Path(__file__).parents[2]


def keep(run_dir: Path, code: str) -> ProcessId:
    (run_dir / "logs").mkdir()
    command = [sys.executable, "-m", "local.keep_running", "role", "--", sys.executable, "-uc", code]
    return spawn(command, log=run_dir / "logs" / "keeper.log", environment={"RUN_DIR": str(run_dir)}, folder=ROOT)


@pytest.fixture
def naps(tmp_path: Path) -> Iterator[ProcessId]:
    keeper = keep(tmp_path, "import time; print('up'); time.sleep(600)")
    yield keeper
    keeper.end()
    for role in processes(tmp_path).values():
        role.end()


def test_a_killed_role_comes_back_and_the_stack_file_names_the_new_process(tmp_path: Path, naps: ProcessId) -> None:
    log = tmp_path / "logs" / "role.log"
    assert eventually(lambda: "role" in processes(tmp_path) and log.read_text() == "up\n", 60)
    describe(tmp_path, {"gateway_url": "http://127.0.0.1:1"})
    first = processes(tmp_path)["role"]
    first.send(signal.SIGKILL)
    assert eventually(lambda: processes(tmp_path)["role"] != first and log.read_text() == "up\nup\n", 60)
    second = processes(tmp_path)["role"]
    assert second.is_alive()
    told = {"gateway_url": "http://127.0.0.1:1", "processes": {"role": second.pid}}
    # Written after the record of the process itself.
    assert eventually(lambda: records.load(stack_file(tmp_path)) == told, 60)
    assert restarts(tmp_path, "role") == 1
    assert "ended by SIGKILL; starting it again" in (tmp_path / "logs" / "keeper.log").read_text()

    naps.end(seconds=60)
    assert not second.is_alive(), "stopping the keeper stops its role"


def test_a_role_that_fails_at_once_is_tried_ever_more_slowly(tmp_path: Path) -> None:
    keeper = keep(tmp_path, "raise SystemExit(3)")
    said = tmp_path / "logs" / "keeper.log"
    try:
        assert eventually(lambda: "exit code 3; starting it again in 2 s" in said.read_text(), 60)
    finally:
        keeper.end()
    pauses = [line.split(" in ")[1] for line in said.read_text().splitlines() if " in " in line]
    assert pauses[:3] == ["0.5 s", "1 s", "2 s"], "and perhaps one more, until it was ended"


def test_stopping_a_run_ends_also_roles_that_lost_their_supervisor(tmp_path: Path, naps: ProcessId) -> None:
    assert eventually(lambda: "role" in processes(tmp_path), 60)
    orphan = processes(tmp_path)["role"]
    naps.end(signal.SIGKILL)
    assert orphan.is_alive()
    supervisor.stop_roles(tmp_path)
    assert not orphan.is_alive()
    assert processes(tmp_path) == {}


def test_stopping_a_run_ends_keepers_that_lost_their_honcho_so_that_no_role_comes_back(
    tmp_path: Path, naps: ProcessId
) -> None:
    assert eventually(lambda: "role" in processes(tmp_path), 60)
    supervisor.stop_roles(tmp_path)
    assert not naps.is_alive()
    assert not eventually(lambda: processes(tmp_path) != {}, 2), "it was started again"
