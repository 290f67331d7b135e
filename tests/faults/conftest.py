"""Servers of these tests' own, since they are killed here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from local import infrastructure
from local.queues import purge
from shared.bus.declare import declare
from tests.faults.ledger import Ledger
from tests.support.databases import Databases
from tests.support.stacks import run_dir


@pytest.fixture(scope="package")
def breakable() -> Iterator[infrastructure.Servers]:
    """Servers that may be killed, frozen and restarted; with normal durability, or a kill would prove nothing."""
    servers = infrastructure.start(run_dir("faults"))
    asyncio.run(declare(servers.amqp_url))
    yield servers
    infrastructure.stop(run_dir("faults"))


@pytest.fixture
async def ledger(breakable: infrastructure.Servers) -> AsyncIterator[Ledger]:
    """A fresh database and empty queues to keep account in."""
    await purge(breakable.amqp_url)
    databases = Databases(breakable.postgres_url)
    fresh = await databases.make("invitations")
    yield await Ledger.open(fresh)
    await databases.drop_all()
    await databases.drop_templates()
