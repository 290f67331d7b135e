"""Workers killed in the middle of sending through providers that misbehave in every way, and then a count.

What the providers took is the truth. Each of their messages must be known as sent, each farmer must have got at most
one, and a row that is not called sent must be of a message that no provider has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local.processes import free_port
from services.invitations.settings import InvitationsSettings
from tests.invitations.conftest import SandboxProvider
from tests.invitations.lists import farmers, finished, xlsx
from tests.invitations.processes import RoleProcess, running_role
from tests.invitations.stage import Stage
from tests.support.eventually import eventually

LATENCY_SECONDS = 0.2
FAULTS: dict[str, Any] = {
    "latency_seconds": LATENCY_SECONDS,
    "too_many_rate": 0.05,
    "server_error_rate": 0.03,
    "drop_rate": 0.03,
    "accept_then_error_rate": 0.05,
    "accept_then_drop_rate": 0.1,
    "report_delay_seconds": 0.3,
    "report_duplicate_rate": 0.2,
    "reports_out_of_order": True,
    "seed": 7,
}
# So slow that each worker dies in the middle; everything else as in production.
PACE: dict[str, Any] = {"messages_per_second": 200.0, "messages_burst": 50.0, "requests_at_once": 16}
# Each worker gets one more list before it dies.
LAST_ROWS = 5


async def kill_in_a_call(stage: Stage, provider: SandboxProvider, worker: RoleProcess, channel: str, first: int) -> int:
    """End a worker in the middle of a call, as a power cut would, and let the leases that it leaves run out at once.

    Meanwhile the providers keep their answers back, and there is one more list to call them about: so it is in a call
    also when this test was held up until all the others had ended. Gives the job of that list.
    """
    provider.turn(latency_seconds=60)
    (row,) = await stage.query("SELECT clock_timestamp() AS now")
    job_id = await upload(stage, channel, LAST_ROWS, first)

    async def is_in_a_call() -> bool:
        open_calls = """SELECT 1 FROM delivery_attempts
                         WHERE ended_at IS NULL AND started_at > $1 AND sender LIKE $2"""
        return bool(await stage.query(open_calls, row["now"], f"%/{worker.process.pid}/%"))

    await eventually(is_in_a_call, what="a call")
    worker.kill()
    provider.turn(latency_seconds=LATENCY_SECONDS)
    async with stage.context.database.transaction() as conn:
        await conn.execute(
            "UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE claimed_by LIKE $1",
            f"%/{worker.process.pid}/%",
        )
    return job_id


async def upload(stage: Stage, channel: str, number: int, first: int) -> int:
    """Upload a list for one channel; gives the job."""
    answer = await stage.upload(xlsx(farmers(number, first=first)), fields={"channel": channel})
    assert answer.status_code == 202, answer.text
    return int(answer.json()["data"]["jobId"])


async def storm(
    stage: Stage,
    settings: InvitationsSettings,
    provider: SandboxProvider,
    broker: str,
    log: Path,
    *,
    each: int,
    deaths: int,
) -> None:
    """Send `each` messages on either channel while so many workers are killed, then count."""
    assert stage.context.verimor is not None
    number = 2 * each + LAST_ROWS * deaths
    await stage.stock("M", number)
    port = free_port()
    public = f"http://127.0.0.1:{port}"
    hurried: dict[str, Any] = PACE | {"sweep_seconds": 0.3, "callback_base_url": public}
    with running_role("api", settings, broker, log, port=port, callback_base_url=public) as api:
        await api.ready()
        report_url = f"{api.url}/callbacks/verimor?key={stage.context.verimor.report_key}"
        provider.turn(**FAULTS, verimor_report_url=report_url)
        jobs = [await upload(stage, "SMS", each, 0), await upload(stage, "WhatsApp", each, each)]
        for death in range(1, deaths + 1):
            with running_role("worker", settings, broker, log, **hurried) as worker:
                await many_are_sent(provider, 2 * each * death // (deaths + 2))
                first = 2 * each + LAST_ROWS * (death - 1)
                jobs.append(await kill_in_a_call(stage, provider, worker, "WhatsApp", first))
        with running_role("worker", settings, broker, log, **hurried):
            await eventually(lambda: is_counted(stage, provider, jobs), within=600, what="the end of the storm")
    await count(stage, provider, number)


async def many_are_sent(provider: SandboxProvider, number: int) -> None:
    """Wait until the providers have taken so many messages."""
    await eventually(lambda: len(provider.messages()) >= number, within=300, what=f"{number} messages")


async def is_counted(stage: Stage, provider: SandboxProvider, jobs: list[int]) -> bool:
    """Say whether all is settled and the last report has come; look-ups, which wait for minutes, are due at once."""
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE deliveries SET due_at = now() WHERE state IN ('unknown', 'queued')")
    ended = [(await stage.progress(job))["completedDate"] for job in jobs]
    return all(ended) and await phones(stage, "sent") == set(provider.phones())


async def phones(stage: Stage, *outcomes: str) -> set[str]:
    """Give the phones of the rows with these outcomes."""
    return {row["phone"] for row in await stage.query("SELECT phone FROM job_rows WHERE outcome = ANY ($1)", outcomes)}


async def count(stage: Stage, provider: SandboxProvider, number: int) -> None:
    """Compare what we know with what the providers took."""
    taken = provider.phones()
    assert set(taken.values()) == {1}, "a farmer got two messages"
    assert await phones(stage, "sent") == set(taken), "a message is lost, or called sent and was not"
    assert await phones(stage, "sent", "needs_review") == await phones(
        stage, "waiting", "sending", "unknown", "sent", "failed", "cancelled", "needs_review"
    ), "a row is neither sent nor left to a person"
    assert len(await phones(stage, "sent", "needs_review")) == number
    assert (await stage.left("M"))["reserved"] == number, "whoever may have got a message keeps the codes"
    outcomes = {row["outcome"] for row in await stage.query("SELECT DISTINCT outcome FROM delivery_attempts")}
    assert {"accepted", "notsent", "unknown"} <= outcomes, "this was no storm"
    # The call of a worker that died is ended by a look at the leases, unless the provider's report comes before that.
    assert outcomes & {"lost", None}, "no worker died in the middle of a call"


@pytest.mark.timeout(600)
async def test_a_storm_of_faults_and_kills_neither_loses_nor_doubles_a_message(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    await storm(stage, settings, provider, broker, tmp_path / "storm.log", each=120, deaths=2)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_three_thousand_messages_come_through_the_storm(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    await storm(stage, settings, provider, broker, tmp_path / "storm.log", each=1_500, deaths=8)


async def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(
    stage: Stage, settings: InvitationsSettings, provider: SandboxProvider, broker: str, tmp_path: Path
) -> None:
    """Without faults of the provider every row is sent, whoever dies."""
    await stage.stock("M", 600 + LAST_ROWS)
    provider.turn(latency_seconds=LATENCY_SECONDS)
    hurried: dict[str, Any] = PACE | {"sweep_seconds": 0.2}
    with running_role("worker", settings, broker, tmp_path / "worker.log", **hurried) as worker:
        job_id = await upload(stage, "SMS", 600, 0)
        await eventually(lambda: len(provider.messages()) > 150, within=60)
        last = await kill_in_a_call(stage, provider, worker, "SMS", 600)
    lost = await stage.query("SELECT 1 FROM deliveries WHERE state IN ('claimed', 'sending')")
    assert lost, "the worker was killed with empty hands: the test proves nothing"
    with running_role("worker", settings, broker, tmp_path / "worker.log", **hurried):
        await finished(stage, job_id, sent=600)
        await finished(stage, last, sent=LAST_ROWS)
    assert len(provider.phones()) == 600 + LAST_ROWS
    assert set(provider.phones().values()) == {1}
    assert (await stage.left("M"))["reserved"] == 600 + LAST_ROWS
