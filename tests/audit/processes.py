"""Audit as processes of its own, and an operator's commands."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from local.processes import free_port
from tests.support.stacks import ROOT


@contextmanager
def process(environment: Mapping[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@contextmanager
def a_worker(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker beside others, whose lines nobody reads."""
    command = [sys.executable, "-m", "services.audit", "worker"]
    own = {**environment, "AUDIT_WORKER_PORT": str(free_port())}
    worker = subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.DEVNULL)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


async def run(environment: Mapping[str, str], *command: str) -> tuple[int, str]:
    """Run an operator's command to its end."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.audit", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
