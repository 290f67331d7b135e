"""The whole way on real parts: list, outbox, broker, a worker process, the providers' process."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.invitations.settings import InvitationsSettings
from tests.invitations.conftest import SandboxProvider
from tests.invitations.processes import running_role, serving_keys
from tests.invitations.stage import BULK, Stage
from tests.invitations.test_uploads import farmers, finished, thousand_with_25_faults, xlsx
from tests.support.eventually import eventually


def processor_seconds(process_id: int) -> tuple[float, float]:
    """Read the processor seconds that a process has used (user, system) from Linux."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


async def test_a_list_goes_through_a_worker_process(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    await stage.stock("M", 1_000)
    with running_role("worker", settings, broker, tmp_path / "worker.log") as worker:
        await worker.ready()
        job_id = (await stage.upload(xlsx(thousand_with_25_faults()))).json()["data"]["jobId"]
        await finished(stage, job_id, sent=975, failed=25)
        assert await worker.stop() == 0
    assert len(provider.phones()) == 975
    assert set(provider.phones().values()) == {1}


async def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    await stage.stock("M", 600)
    provider.turn(latency_seconds=0.15)
    hurried: dict[str, Any] = {"lease_seconds": 3.0, "sweep_seconds": 0.2}
    log = tmp_path / "worker.log"
    with running_role("worker", settings, broker, log, **hurried) as worker:
        await worker.ready()
        job_id = (await stage.upload(xlsx(farmers(600)))).json()["data"]["jobId"]
        await eventually(lambda: len(provider.messages()) > 150, within=60)
        worker.kill()
    with running_role("worker", settings, broker, log, **hurried) as worker:
        await finished(stage, job_id, sent=600)
    phones = provider.phones()
    assert len(phones) == 600
    assert set(phones.values()) == {1}
    assert (await stage.left("M"))["reserved"] == 600
    lost = await stage.query("SELECT 1 FROM delivery_attempts WHERE outcome = 'lost'")
    assert lost, "the worker was killed while nothing was in flight: the test proves nothing"


@pytest.mark.slow
async def test_ten_thousand_rows_are_sent_in_seconds(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    await stage.stock("M", 10_000)
    provider.turn(reports=False)
    content = xlsx(farmers(10_000))
    with running_role(
        "worker", settings, broker, tmp_path / "worker.log", messages_per_second=1e6, messages_burst=1e6
    ) as worker:
        await worker.ready()
        started = time.monotonic()
        job_id = (await stage.upload(content)).json()["data"]["jobId"]
        uploaded = time.monotonic() - started

        async def all_sent() -> bool:
            return int((await stage.progress(job_id))["successCount"]) == 10_000

        await eventually(all_sent, within=60)
        took = time.monotonic() - started
        worked = sum(processor_seconds(worker.process.pid))
    print(f"upload {uploaded:.2f} s, all sent after {took:.2f} s, worker used {worked:.2f} s")  # noqa: T201
    assert len(provider.phones()) == 10_000
    assert set(provider.phones().values()) == {1}


@pytest.mark.slow
async def test_a_storm_of_faults_and_kills_neither_loses_nor_doubles_a_message(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    await stage.stock("M", 3_000)
    hurried: dict[str, Any] = {"lease_seconds": 10.0, "sweep_seconds": 0.3}
    log = tmp_path / "storm.log"
    assert stage.context.verimor is not None
    with running_role("api", settings, broker, log) as api:
        await api.ready()
        provider.turn(
            latency_seconds=0.2,
            too_many_rate=0.05,
            server_error_rate=0.03,
            drop_rate=0.03,
            accept_then_error_rate=0.1,
            accept_then_drop_rate=0.1,
            report_delay_seconds=0.3,
            report_duplicate_rate=0.2,
            reports_out_of_order=True,
            verimor_report_url=f"{api.url}/callbacks/verimor?key={stage.context.verimor.report_key}",
            seed=7,
        )
        job_id = (await stage.upload(xlsx(farmers(3_000)))).json()["data"]["jobId"]
        for _ in range(6):
            with (
                running_role("worker", settings, broker, log, **hurried) as one,
                running_role("worker", settings, broker, log, **hurried) as other,
            ):
                await one.ready()
                await asyncio.sleep(1.0)
                one.kill()
                await asyncio.sleep(0.3)
                other.kill()
        with running_role("worker", settings, broker, log, **hurried):

            async def settled() -> bool:
                # Look-ups wait a minute in earnest; here they are due at once.
                async with stage.context.database.transaction() as conn:
                    await conn.execute("UPDATE deliveries SET due_at = now() WHERE state = 'unknown'")
                return bool((await stage.progress(job_id))["percent"] == 100)

            await eventually(settled, within=120)
    outcomes = await stage.outcomes(job_id)
    assert set(outcomes) <= {"sent", "needs_review"}, outcomes
    assert sum(outcomes.values()) == 3_000
    phones = provider.phones()
    assert set(phones.values()) == {1}, "a message was sent twice"
    assert len(phones) >= outcomes["sent"], "a message is called sent that was not"
    assert (await stage.left("M"))["reserved"] == 3_000
    assert len(await stage.events("invitations.invitation.created.v1")) <= 3_000


@pytest.mark.slow
async def test_a_hundred_thousand_rows_leave_memory_flat(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    provider.turn(reports=False)
    for _ in range(2):
        await stage.stock("M", 50_000)
    log = tmp_path / "large.log"
    small, large = xlsx(farmers(100, first=900_000)), xlsx(farmers(100_000))
    with (
        serving_keys(await stage.issuer.keys()) as jwks_url,
        running_role("api", settings, broker, log, jwks_url=jwks_url) as api,
        running_role("worker", settings, broker, log, messages_per_second=1e6, messages_burst=1e6) as worker,
    ):
        await api.ready()
        await worker.ready()
        async with httpx.AsyncClient(base_url=api.url, timeout=120, trust_env=False) as client:

            async def upload(content: bytes) -> int:
                answer = await client.post(BULK, files={"excelFile": ("list.xlsx", content)}, headers=stage.sponsor())
                assert answer.status_code == 202, answer.text
                return int(answer.json()["data"]["jobId"])

            await upload(small)
            before = api.peak_megabytes()
            job_id = await upload(large)
            grown = api.peak_megabytes() - before

            async def well_under_way() -> bool:
                return int((await stage.progress(job_id))["successCount"]) > 20_000

            await eventually(well_under_way, within=150)
            print(f"api +{grown:.0f} MB, worker {worker.peak_megabytes():.0f} MB")  # noqa: T201
            assert grown < 80
            assert worker.peak_megabytes() < 300
