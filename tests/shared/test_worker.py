"""The worker role as a whole."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from local.processes import free_port
from shared import worker
from shared.health import Health
from shared.outbox import Relay
from shared.settings import StoreSettings
from shared.worker import Schedule, WorkerBroken, run_worker
from tests.support.databases import Databases
from tests.support.eventually import eventually


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


async def test_what_runs_until_the_worker_stops_is_well_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_STEADY_SECONDS", 0.1)
    fails, runs, problems = asyncio.Event(), 0, []

    class NotingHealth(Health):
        def fail(self, part: str, problem: str) -> None:
            problems.append(problem)
            super().fail(part, problem)

    health = NotingHealth()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            await fails.wait()
            raise ValueError("nobody foresaw this")
        await asyncio.Event().wait()

    def report() -> str | None:
        return health.report().get("schedule send")

    task = worker._repeat(Schedule("send", 0.1, work), health)
    await eventually(lambda: report() == "ok", what="word of a schedule that runs")
    fails.set()
    await eventually(lambda: runs == 2 and report() == "ok", what="word of a schedule that runs again")
    assert problems == ["failed, will be tried again"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
