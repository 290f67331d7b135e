"""The worker role as a whole."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from local.processes import free_port
from shared.outbox import Relay
from shared.settings import StoreSettings
from shared.worker import WorkerBroken, run_worker
from tests.support.databases import Databases


class WarehouseSettings(StoreSettings):
    """Settings of a service that does not exist."""

    service = "warehouse"


async def test_a_worker_of_which_a_part_has_ended_ends_as_a_whole_and_says_which(
    databases: Databases, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(_: Relay) -> None:
        return

    monkeypatch.setattr(Relay, "run", end)
    fresh = await databases.make("auth")
    settings = WarehouseSettings(amqp_url=SecretStr(broker), database_url=SecretStr(fresh.url), worker_port=free_port())
    with pytest.raises(WorkerBroken, match="relay ended"):
        await run_worker(settings, database=fresh.database, context=None, work=[])
