"""Starts one role of the system again whenever it dies, as a container's restart policy would.

python -m local.keep_running ROLE -- COMMAND…
honcho ends everything when one of its processes ends; so this is what it runs, and a killed worker comes back.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from local.processes import identify
from local.progress import say
from local.stack_file import record_keeper, record_process

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
HEALTHY_SECONDS = 10.0  # one that ran this long did not die of its start: the next pause is short again


class Keeper:
    """Runs one command, again and again, until it is told to stop."""

    def __init__(self, role: str, command: list[str], run_dir: Path) -> None:
        self.role, self.command, self.run_dir = role, command, run_dir
        self.stopping = threading.Event()
        self.child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Keep the command running."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        record_keeper(self.run_dir, identify(os.getpid()))
        pause, restarts = FIRST_PAUSE_SECONDS, 0
        while not self.stopping.is_set():
            started = time.monotonic()
            ending = self._run_once(restarts)
            if self.stopping.is_set():
                break
            if time.monotonic() - started > HEALTHY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            say(f"{ending}; starting it again in {pause:g} s")
            self.stopping.wait(pause)
            pause, restarts = min(pause * 2, LONGEST_PAUSE_SECONDS), restarts + 1
        say("stopped")

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """End the command in good order, and do not start it again."""
        self.stopping.set()
        if self.child and self.child.poll() is None:
            self.child.terminate()

    def _run_once(self, restarts: int) -> str:
        # The child writes its log itself: nothing is lost when this process is the one that dies.
        with (self.run_dir / "logs" / f"{self.role}.log").open("ab") as log:
            # In a group of its own: honcho signals its whole group, and a second SIGTERM makes servers stop in haste.
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        if self.stopping.is_set():  # told to stop while it was being started
            self.child.terminate()
        record_process(self.run_dir, self.role, identify(self.child.pid), restarts=restarts)
        say(f"runs as process {self.child.pid}")
        code = self.child.wait()
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


if __name__ == "__main__":
    role, separator, *command = sys.argv[1:]
    Keeper(role, command, Path(os.environ["RUN_DIR"])).run()
