"""What a running system tells about itself: stack.json, which process plays which role, its settings for a shell."""

from __future__ import annotations

import fcntl
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from local import records
from local.processes import ProcessId


def stack_file(run_dir: Path) -> Path:
    """Say where the description of this run is; that of `make up` is the one that people look for."""
    return (run_dir.parent if run_dir.name == "up" else run_dir) / "stack.json"


def describe(run_dir: Path, stack: dict[str, Any]) -> None:
    """Publish the description of a running system; only its owner can read it, for it holds passwords."""
    with _alone(run_dir):
        pids = {role: process.pid for role, process in processes(run_dir).items()}
        records.save(stack_file(run_dir), stack | {"processes": pids})


def environment_file(run_dir: Path) -> Path:
    """Say where a shell finds the settings of this run's services, for the commands of operators."""
    return stack_file(run_dir).with_name("environment.sh")


def write_environment(run_dir: Path, variables: Mapping[str, str]) -> None:
    """Write the settings so that `. .run/environment.sh` makes operators' commands work; only its owner can read it."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    records.write_private(environment_file(run_dir), "\n".join(lines) + "\n")


def record_process(run_dir: Path, role: str, process: ProcessId, *, restarts: int) -> None:
    """Note which process plays a role now."""
    with _alone(run_dir):
        records.save(run_dir / "processes" / f"{role}.json", asdict(process) | {"restarts": restarts})
        stack = records.load(stack_file(run_dir))
        if stack:
            stack["processes"][role] = process.pid
            records.save(stack_file(run_dir), stack)


def record_keeper(run_dir: Path, process: ProcessId) -> None:
    """Note who keeps a role running: while it lives, ending the role alone would only make it start again."""
    records.save(run_dir / "keepers" / f"{process.pid}.json", asdict(process))


def keepers(run_dir: Path) -> list[ProcessId]:
    """Give those who keep roles running, whether they still run or not."""
    found = [records.load(path) for path in (run_dir / "keepers").glob("*.json")]
    return [ProcessId(**record) for record in found if record]


def processes(run_dir: Path) -> dict[str, ProcessId]:
    """Give the process of each role, whether it still runs or not."""
    found = {path.stem: records.load(path) for path in sorted((run_dir / "processes").glob("*.json"))}
    return {role: ProcessId(record["pid"], record["started"]) for role, record in found.items() if record}


def restarts(run_dir: Path, role: str) -> int:
    """Count how often a role had to be started again."""
    record = records.load(run_dir / "processes" / f"{role}.json") or {}
    return int(record.get("restarts", 0))


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "stack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
