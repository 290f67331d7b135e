"""A service of the tests' own as a process."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from local.processes import free_port
from tests.support.eventually import eventually
from tests.support.stacks import ROOT

Address = tuple[str, int]


@asynccontextmanager
async def small_service(*, farewell_seconds: float) -> AsyncIterator[tuple[Address, Process]]:
    """Start the small service and stop it afterwards; it takes its leave for so long while somebody is connected."""
    address = ("127.0.0.1", free_port())
    own = {
        "SMALL_PORT": str(address[1]),
        "SMALL_AMQP_URL": "amqp://nobody",
        "SMALL_FAREWELL_SECONDS": str(farewell_seconds),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.support.small_service"]
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | own, stdout=DEVNULL)
    try:
        await eventually(lambda: _listens(address), what="the small service")
        yield address, process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


async def _listens(address: Address) -> bool:
    with suppress(ConnectionRefusedError):
        _, writer = await asyncio.open_connection(*address)
        writer.close()
        return True
    return False
