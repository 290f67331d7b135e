"""The tour of `make demo`, step by step, against a whole system of its own: all processes, through the gateway."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import stack
from local.stack_file import environment_file, processes
from local.supervisor import HOME, stop_roles
from local.tour.guide import Guide
from local.tour.journey import STEPS, Step
from local.tour.system import LocalSystem
from local.tour.telling import Printer
from tests.support.stacks import run_dir

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def guide() -> Iterator[Guide]:
    home = run_dir("journey")
    try:
        description = stack.up(home)
        leader = Guide(description, LocalSystem(description, home), Printer())
        yield leader
        leader.close()
    finally:
        stack.down(home)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.name}-{step.take.__name__}")
def test_what_the_tour_shows_holds(guide: Guide, step: Step) -> None:
    step.take(guide)


@pytest.fixture
def home() -> Path:
    return run_dir("journey")


def test_each_role_is_a_process_of_its_own(guide: Guide, home: Path) -> None:
    running = processes(home)
    assert set(running) == set(guide.stack["logs"])
    assert all(process.is_alive() for process in running.values())
    assert len({process.pid for process in running.values()}) == len(running)


def test_no_password_of_a_person_is_in_any_log(guide: Guide, home: Path) -> None:
    passwords = [account["password"] for account in guide.stack["accounts"].values()]
    logs = {path.name: path.read_text(errors="replace") for path in (home / "logs").iterdir()}
    assert [name for name, text in logs.items() if any(password in text for password in passwords)] == []


@pytest.mark.usefixtures("guide")
def test_a_shell_that_reads_the_settings_can_run_the_commands_of_operators(home: Path) -> None:
    script = f". {environment_file(home)} && python -m services.referrals connection"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, cwd=HOME)
    assert (done.returncode, done.stdout.splitlines()[:1]) == (0, ["Account cached: ops@contoso.example"]), done.stderr
    assert stat.S_IMODE(environment_file(home).stat().st_mode) == 0o600


@pytest.mark.usefixtures("guide")
def test_stopping_ends_every_role(home: Path) -> None:
    running = list(processes(home).values())
    stop_roles(home)
    assert not any(process.is_alive() for process in running)
