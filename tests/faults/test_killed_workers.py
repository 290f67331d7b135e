"""Worker processes are killed with SIGKILL at any moment; what they had begun is done once by whoever comes next."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx

from local import infrastructure
from local.processes import free_port
from tests.faults.ledger import Ledger
from tests.support.eventually import eventually
from tests.support.stacks import ROOT

KILLS = 5


@contextmanager
def worker(ledger: Ledger, amqp_url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {
        "INVITATIONS_DATABASE_URL": ledger.fresh.url,
        "INVITATIONS_AMQP_URL": amqp_url,
        "INVITATIONS_WORKER_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.ledger_worker"], cwd=ROOT, env=environment, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        # In good order: what it has done and not acknowledged would come again, into the account of the next test.
        process.terminate()
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()


async def is_ready(port: int) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


async def has_moved_on(ledger: Ledger, before: tuple[int, int, int]) -> bool:
    return await ledger.counts() != before


async def test_killed_at_random_moments_with_full_hands(breakable: infrastructure.Servers, ledger: Ledger) -> None:
    moments = random.Random(7)
    for _ in range(KILLS):
        await ledger.decide(1_000)  # for each of them: else a quick one leaves nothing to be killed at
        before = await ledger.counts()
        with worker(ledger, breakable.amqp_url, free_port()) as process:
            await eventually(partial(has_moved_on, ledger, before), what="its first batch")
            await asyncio.sleep(moments.random() * 0.3)
            process.kill()
    with worker(ledger, breakable.amqp_url, free_port()):
        await eventually(ledger.balanced)
    assert await ledger.check(breakable.amqp_url) == KILLS * 1_000


async def test_told_to_stop_it_finishes_what_it_has_begun_and_ends_well(
    breakable: infrastructure.Servers, ledger: Ledger
) -> None:
    port = free_port()
    with worker(ledger, breakable.amqp_url, port) as process:
        await eventually(lambda: is_ready(port), what="readiness")
        async with ledger.traffic():
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 60) == 0
            assert process.stdout is not None
            assert b'"stopped"' in process.stdout.read()
    with worker(ledger, breakable.amqp_url, free_port()):
        await eventually(ledger.balanced)
    await ledger.check(breakable.amqp_url)
