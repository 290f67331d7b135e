"""The processes of referrals as operators run them: the worker, killed on purpose, and the commands."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from services.referrals.context import Context
from tests.support.eventually import eventually
from tests.support.microsoft import SandboxMicrosoft
from tests.support.referrals import ROOT, a_worker, ask, connect, plain_cache, run_command, value

PAGES = 10
REQUESTS = "SELECT FROM outbox WHERE routing_key = 'referrals.sync.requested.v1'"


@pytest.mark.timeout(400)  # eleven workers start one after the other
async def test_a_worker_killed_on_each_page_loses_nothing_and_doubles_nothing(
    context: Context, sandbox: SandboxMicrosoft, environment: dict[str, str], tmp_path: Path
) -> None:
    sandbox.reset(PAGES * 100)
    await connect(context, sandbox)
    # Each page stays away the first time it is asked for; then it comes.
    sandbox.turn(api_faults=[{"kind": "silence", "page": page} for page in range(1, PAGES + 1)])
    await ask(context)
    for done in range(PAGES):
        with a_worker(environment, tmp_path / "worker.log") as worker:

            async def is_at_the_next_page(done: int = done) -> bool:
                is_asked_for = sandbox.state()["knobs"]["api_faults"][done]["times"] == 0
                return is_asked_for and bool(await value(context, "SELECT pages FROM referral_syncs") == done)

            await eventually(is_at_the_next_page)
            # A relay that dies before it has deleted the request publishes it again: then two messages start the task.
            await eventually(lambda: value(context, f"SELECT NOT EXISTS ({REQUESTS})"))
            worker.kill()
    with a_worker(environment, tmp_path / "worker.log"):
        await eventually(lambda: value(context, "SELECT state = 'succeeded' FROM referral_syncs"))
        await eventually(lambda: value(context, "SELECT NOT EXISTS (SELECT FROM outbox)"))
    assert await value(context, "SELECT count(*) FROM partner_center_referrals") == PAGES * 100
    assert await value(context, "SELECT count(*) FROM referral_statuses") == PAGES * 100
    assert await value(context, "SELECT ROW(pages, fetched, created, updated)::text FROM referral_syncs") == (
        f"({PAGES},{PAGES * 100},{PAGES * 100},0)"
    )
    resumed = re.findall(
        r"partner_center_sync_task_started \S+ pages_done=(\d+)", (tmp_path / "worker.log").read_text()
    )
    assert [int(pages) for pages in resumed] == [0, *range(PAGES)]


async def test_malformed_settings_end_a_command_with_the_variable_and_no_stack_trace(
    environment: dict[str, str],
) -> None:
    code, output = await run_command(environment | {"HUNTER_PARTNER_CENTER_API_URL": "http://x"}, "sync")
    assert code == 1
    assert "HUNTER_PARTNER_CENTER_API_URL: " in output
    assert "Traceback" not in output


async def test_a_file_that_is_no_token_cache_is_refused_in_one_line(
    context: Context, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / ".token_cache"
    file.write_bytes(b"\xff\xfe\x00")
    for name, content in ((str(file), b""), ("-", file.read_bytes())):
        code, output = await run_command(environment, "import-cache", name, given=content)
        assert (code, len(output.splitlines())) == (1, 1)
        assert "cannot be read as text" in output
    assert await value(context, "SELECT count(*) FROM partner_center_connections") == 0


async def test_128_needs_of_4_processes_at_once_cost_one_renewal(
    context: Context, sandbox: SandboxMicrosoft, environment: dict[str, str]
) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    # A second of delay, so that every process finds the renewal of another one under way.
    sandbox.turn(access_token_expires_in=3600, one_time_refresh_tokens=True, token_delay_seconds=1)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.token_needs",
            "32",
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * 4
    tokens = [token for output, _ in answers for token in output.decode().split()]
    assert len(tokens) == 4 * 32
    assert len(set(tokens)) == 1
    assert sandbox.state()["token_calls"]["refresh_token:issued"] == 1
    assert await value(context, "SELECT version FROM partner_center_connections") == 2


async def test_a_restarted_service_needs_no_new_sign_in_and_logs_no_secret(
    context: Context, sandbox: SandboxMicrosoft, environment: dict[str, str], tmp_path: Path
) -> None:
    sandbox.turn(access_token_expires_in=200)  # so short that each process has to renew it
    await connect(context, sandbox)
    log = tmp_path / "worker.log"
    for number in (1, 2):
        with a_worker(environment, log):
            code, output = await run_command(environment, "sync", "--wait")
            assert code == 0, (number, output)
    calls = sandbox.state()["token_calls"]
    assert calls.pop("device_code:issued") == 1
    assert calls.keys() == {"refresh_token:issued"}
    assert '"partner_center_referrals_fetched count=250"' in log.read_text()
    assert not any(secret in log.read_text() for secret in ('"at-', " at-", '"rt-', " rt-"))


async def test_a_token_cache_can_come_by_standard_input(
    context: Context, sandbox: SandboxMicrosoft, environment: dict[str, str]
) -> None:
    plain = await plain_cache(context, sandbox)
    assert await run_command(environment, "import-cache", "-", given=plain.encode()) == (
        0,
        "Account cached: ops@contoso.example\nNow delete the file: it is readable to whoever finds it.\n",
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_100000_referrals_leave_the_memory_of_the_worker_flat(
    context: Context, sandbox: SandboxMicrosoft, environment: dict[str, str], tmp_path: Path
) -> None:
    sandbox.reset(100_000)
    await connect(context, sandbox)
    await ask(context)
    with a_worker(environment, tmp_path / "worker.log") as worker:
        await eventually(lambda: value(context, "SELECT fetched >= 10000 FROM referral_syncs"), within=300)
        early = peak_megabytes(worker.pid)
        await eventually(lambda: value(context, "SELECT state = 'succeeded' FROM referral_syncs"), within=900)
        assert peak_megabytes(worker.pid) < 150
        assert peak_megabytes(worker.pid) - early < 15
    assert await value(context, "SELECT count(*) FROM partner_center_referrals") == 100_000


def peak_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
