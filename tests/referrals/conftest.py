from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from local.processes import free_port
from services.referrals.context import Context, make_context
from services.referrals.settings import ReferralsSettings
from tests.support.databases import Databases, FreshDatabase
from tests.support.microsoft import CLIENT_ID, TENANT, SandboxMicrosoft, running_microsoft
from tests.support.referrals import some_settings


@pytest.fixture(scope="session")
def microsoft_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxMicrosoft]:
    with running_microsoft(tmp_path_factory.mktemp("microsoft")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(microsoft_process: SandboxMicrosoft, monkeypatch: pytest.MonkeyPatch) -> SandboxMicrosoft:
    # The sandbox shares this machine, and may be kept from answering for longer than Microsoft is waited for.
    monkeypatch.setattr("services.referrals.microsoft._REQUEST_SECONDS", (60, 60))
    microsoft_process.reset()
    return microsoft_process


@pytest.fixture
async def fresh(databases: Databases) -> FreshDatabase:
    return await databases.make("referrals")


@pytest.fixture
def settings(sandbox: SandboxMicrosoft, fresh: FreshDatabase) -> ReferralsSettings:
    return some_settings(sandbox, fresh)


@pytest.fixture
async def context(settings: ReferralsSettings) -> AsyncIterator[Context]:
    made = make_context(settings)
    yield made
    await made.close()


@pytest.fixture
def environment(sandbox: SandboxMicrosoft, fresh: FreshDatabase, broker: str) -> dict[str, str]:
    return {
        **os.environ,
        "REFERRALS_DATABASE_URL": fresh.url,
        "REFERRALS_AMQP_URL": broker,
        "REFERRALS_WORKER_PORT": str(free_port()),
        "HUNTER_PARTNER_CENTER_ENABLED": "true",
        "HUNTER_PARTNER_CENTER_TENANT_ID": TENANT,
        "HUNTER_PARTNER_CENTER_CLIENT_ID": CLIENT_ID,
        "HUNTER_PARTNER_CENTER_AUTHORITY": sandbox.url,
        "HUNTER_PARTNER_CENTER_API_URL": sandbox.url,
        "HUNTER_PARTNER_CENTER_CA_FILE": str(sandbox.ca_file),
        "HUNTER_PARTNER_CENTER_BACKOFF_SECONDS": "0.05",
    }
