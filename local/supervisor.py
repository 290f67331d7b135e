"""Starts all roles of the Procfile under honcho, and stops them by the ids recorded at their start."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from local import records
from local.processes import ProcessId, spawn
from local.stack_file import environment_file, keepers, processes, stack_file

HOME = Path(__file__).resolve().parent.parent
# honcho gives its processes 5 s after it was told to stop, then ends them hard.
STOP_SECONDS = 15


def start_roles(run_dir: Path, environment: Mapping[str, str], roles: Sequence[str]) -> ProcessId:
    """Start some roles; what honcho itself says goes to a log of its own."""
    log = run_dir / "logs" / "honcho.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(HOME),
        "RUN_DIR": str(run_dir),
    }
    # An empty file of settings: else honcho reads a .env of the checkout, which is the person's own.
    settings = run_dir / "honcho.env"
    settings.touch()
    command = ["honcho", "--no-colour", "--env", str(settings), "--procfile", str(HOME / "Procfile"), "start", *roles]
    command[0] = str(Path(sys.executable).with_name(command[0]))
    honcho = spawn(command, log=log, environment=os.environ | environment | own, folder=HOME)
    records.save(run_dir / "honchos" / f"{honcho.pid}.json", asdict(honcho))
    return honcho


def is_supervised(run_dir: Path) -> bool:
    """Tell whether every honcho that was started still runs."""
    honchos = _honchos(run_dir)
    return bool(honchos) and all(honcho.is_alive() for honcho in honchos)


def stop_roles(run_dir: Path) -> None:
    """Stop every role of this run, in good order where possible."""
    # From the top: a honcho ends its keepers, a keeper its role; then those that lost whoever was above them.
    _end(_honchos(run_dir))
    _end(keepers(run_dir))
    _end(processes(run_dir).values())
    for folder in ("honchos", "keepers", "processes"):
        shutil.rmtree(run_dir / folder, ignore_errors=True)
    for file in (stack_file(run_dir), environment_file(run_dir)):
        file.unlink(missing_ok=True)


def _end(found: Iterable[ProcessId]) -> None:
    these = list(found)
    for process in these:
        process.send(signal.SIGTERM)  # all of them first, so that they stop side by side
    for process in these:
        if not process.wait(STOP_SECONDS):
            process.end(signal.SIGKILL)


def _honchos(run_dir: Path) -> list[ProcessId]:
    found = [records.load(path) for path in (run_dir / "honchos").glob("*.json")]
    return [ProcessId(**record) for record in found if record]
