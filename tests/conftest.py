"""Real servers for every test that needs them; a test that needs none starts none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Iterator

import hypothesis
import pytest

from local import infrastructure
from local.queues import purge
from shared import audit
from shared.bus.declare import declare
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.evidence import Watch
from tests.support.messages import nobody_consumes
from tests.support.stacks import run_dir
from tests.support.tokens import Issuer

# How fast examples are made and tried depends on what else the machine does, and is not what these tests are about.
hypothesis.settings.register_profile("any pace", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any pace")


@pytest.fixture(autouse=True)
def evidence_as_documented(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No service records an act that docs/audit-events.md does not know, in whatever test."""
    watch = Watch(audit.record)
    monkeypatch.setattr(audit, "record", watch.record)
    yield
    assert watch.unknown == []


@pytest.fixture(scope="session")
def servers() -> Iterator[infrastructure.Servers]:
    """PostgreSQL and RabbitMQ of this test run; TEST_STACK names another stack, KEEP_TEST_SERVERS leaves it running."""
    yield infrastructure.start(run_dir(), unsafe_fast=True)
    if not os.environ.get("KEEP_TEST_SERVERS"):
        infrastructure.stop(run_dir())


@pytest.fixture(scope="session")
def all_databases(servers: infrastructure.Servers) -> Iterator[Databases]:
    """The templates of this run."""
    made = Databases(servers.postgres_url)
    yield made
    asyncio.run(made.drop_templates())


@pytest.fixture
async def databases(all_databases: Databases) -> AsyncIterator[Databases]:
    """Makes fresh migrated databases: `await databases.make("auth")`."""
    yield all_databases
    await all_databases.drop_all()


@pytest.fixture(scope="session")
def declared_broker(servers: infrastructure.Servers) -> str:
    """The broker with the topology declared."""
    asyncio.run(declare(servers.amqp_url))
    return servers.amqp_url


@pytest.fixture
async def broker(declared_broker: str) -> str:
    """The URL of a broker whose queues are empty."""
    # The broker may not have noticed yet that the processes of an earlier test were killed.
    await eventually(lambda: nobody_consumes(declared_broker), what="the end of earlier consumers")
    await purge(declared_broker)
    return declared_broker


@pytest.fixture
def issuer() -> Issuer:
    """Signs access tokens as auth does."""
    return Issuer()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a report fit to be sent by a worker, whatever its test logged on purpose."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode("utf-8")) for title, text in report.sections
    ]
    return report
