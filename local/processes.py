"""Processes that outlive whoever started them, and that are only ever ended by the id recorded at their start."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

POLL_SECONDS = 0.05

# Kept so that ended children can be reaped: an unreaped one would look alive to its waiters, and a dropped Popen warns.
_children: list[subprocess.Popen[bytes]] = []
_given_ports: set[int] = set()


@dataclass(frozen=True)
class ProcessId:
    """One process for good: an id alone may be given to a stranger after the process has gone."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        for child in _children:
            child.poll()
        return _start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        if self.is_alive():
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; tells whether it came in time."""
        return eventually(lambda: not self.is_alive(), seconds)

    def end(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 20) -> None:
        """End it politely, then for certain."""
        self.send(number)
        if not self.wait(seconds):
            self.send(signal.SIGKILL)
            self.wait(5)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    folder: Path | None = None,
) -> ProcessId:
    """Start a process in a session of its own, so that a Ctrl-C meant for us does not reach it."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
            **identity(user),
        )
    _children.append(child)
    return identify(child.pid)


def identity(user: str | None) -> dict[str, Any]:
    """Give the arguments that make subprocess run something as this user; none for ourselves."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def identify(pid: int) -> ProcessId:
    """Name a process so that it can be found again, or known to have gone."""
    return ProcessId(pid, _start_time(pid) or "gone")


def _start_time(pid: int) -> str | None:
    try:
        # proc(5): the name in parentheses may hold spaces; after it come the state (field 3) and the start time (22).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self").exists() else _start_time_from_ps(pid)
    state, started = fields[0], fields[19]
    return None if state in "ZX" else started


def _start_time_from_ps(pid: int) -> str | None:
    ps = shutil.which("ps") or "/bin/ps"
    answer = subprocess.run([ps, "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds; tells whether it did in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(POLL_SECONDS)
    return condition()


def free_port() -> int:
    """Find a port of the loopback interface that nobody listens on."""
    # Not from the system's range for outgoing connections (32768 upwards): while a server on such a port is down, a
    # client that keeps reconnecting is sooner or later given that very port as its own, connects to itself, and the
    # server cannot come back.
    # What is given here is bound later, by a process that has yet to start: until then nothing else shows that it is
    # taken. So none is given twice, and two processes that look at the same time, whose ids are neighbours, as the
    # workers of a test run, look at different ones.
    ours = range(15_000 + os.getpid() % 16, 32_000, 16)
    for port in random.sample(ours, len(ours)):
        if port in _given_ports:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given_ports.add(port)
            return port
    raise LocalError("No free port between 15000 and 32000 on 127.0.0.1.")


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def tail(log: Path, lines: int = 20) -> str:
    """Give the last lines of a log, for the message that explains a failure."""
    if not log.is_file():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
