"""The whole way on real parts: list, outbox, broker, a worker process, the providers' process."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from services.invitations.settings import InvitationsSettings
from tests.invitations.conftest import SandboxProvider
from tests.invitations.lists import farmers, finished, thousand_with_25_faults, xlsx
from tests.invitations.processes import running_role, serving_keys
from tests.invitations.stage import BULK, Stage
from tests.support.eventually import eventually


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
        worked = worker.processor_seconds()
    print(f"upload {uploaded:.2f} s, all sent after {took:.2f} s, worker used {worked:.2f} s")  # noqa: T201
    assert len(provider.phones()) == 10_000
    assert set(provider.phones().values()) == {1}


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_a_hundred_thousand_rows_leave_memory_flat(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    provider.turn(reports=False)
    for _ in range(2):
        await stage.stock("M", 50_050)
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

            await finished(stage, await upload(small), sent=100)
            before = api.peak_megabytes()
            job_id = await upload(large)
            grown = api.peak_megabytes() - before

            async def sent(number: int) -> bool:
                return int((await stage.progress(job_id))["successCount"]) >= number

            await eventually(lambda: sent(10_000), within=300)
            early = worker.peak_megabytes()
            await eventually(lambda: sent(100_000), within=900)
            await finished(stage, job_id, sent=100_000)
            late = worker.peak_megabytes()
            results = await client.get(f"{BULK}/{job_id}/results?format=csv", headers=stage.sponsor())
            assert len(results.content.splitlines()) == 100_001
            served = api.peak_megabytes() - before
            print(f"api +{grown:.0f} MB, with results +{served:.0f} MB, worker {early:.0f}, {late:.0f} MB")  # noqa: T201
            assert grown < 60, "the rows of a list must not gather in the api"
            assert served < 80
            assert late - early < 40, "the rows of a job must not gather in the worker"
            assert late < 300
    assert len(provider.phones()) == 100_000 + 100
    assert set(provider.phones().values()) == {1}
