"""A running invitations service and the sandbox's providers for its tests."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from local.processes import free_port
from services.invitations.commands import sweeping
from services.invitations.context import Context
from services.invitations.settings import InvitationsSettings
from tests.invitations.stage import Stage, opened
from tests.support.databases import Databases, FreshDatabase
from tests.support.tokens import Issuer

SECRET_KEYS = base64.b64encode(bytes(range(32))).decode()


class SandboxProvider:
    """A running sandbox of both providers: its knobs and its ledger."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=f"{self.url}/_sandbox", trust_env=False, timeout=60)

    def turn(self, **knobs: Any) -> None:
        self._client.post("/knobs", json=knobs).raise_for_status()

    def reset(self) -> None:
        self._client.post("/reset").raise_for_status()

    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self._client.get("/messages").raise_for_status().json()["messages"]
        return messages

    def phones(self) -> dict[str, int]:
        phones: dict[str, int] = self._client.get("/phones").raise_for_status().json()
        return phones

    def answers(self) -> dict[str, int]:
        answers: dict[str, int] = self._client.get("/count").raise_for_status().json()["answers"]
        return answers

    def close(self) -> None:
        self._client.close()


@contextmanager
def running_provider() -> Iterator[SandboxProvider]:
    """Start the sandbox's providers as a process of their own and stop them again."""
    port = free_port()
    sandbox = SandboxProvider(port)
    command = [sys.executable, "-m", "sandbox", "provider", "--port", str(port)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            _wait_until_ready(process, sandbox)
            yield sandbox
        finally:
            sandbox.close()
            process.kill()  # It has nothing to keep, and would wait for the answers that a test has delayed.


def _wait_until_ready(process: subprocess.Popen[bytes], sandbox: SandboxProvider) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the sandbox ended"
        try:
            httpx.get(f"{sandbox.url}/healthz", trust_env=False).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the sandbox did not answer in time")


@pytest.fixture(scope="session")
def provider_process() -> Iterator[SandboxProvider]:
    """One sandbox for all tests of the run."""
    with running_provider() as sandbox:
        yield sandbox


@pytest.fixture
def provider(provider_process: SandboxProvider) -> SandboxProvider:
    """The sandbox, empty and without faults."""
    provider_process.reset()
    return provider_process


@pytest.fixture
async def fresh(databases: Databases) -> FreshDatabase:
    """A database of invitations, with the rights that the service has."""
    return await databases.make("invitations")


@pytest.fixture
def settings(fresh: FreshDatabase, provider: SandboxProvider, tmp_path: Path) -> InvitationsSettings:
    """Settings of a development service whose providers are the sandbox."""
    return InvitationsSettings(
        database_url=SecretStr(fresh.url),
        amqp_url=SecretStr("amqp://127.0.0.1:1"),
        secret_keys=SecretStr(SECRET_KEYS),
        link_base_url="https://ziraai.example",
        callback_base_url="https://hub.example",
        upload_folder=tmp_path,
        verimor_url=provider.url,
        verimor_username="902120000000",
        verimor_password=SecretStr("sandbox"),
        verimor_sender="PARTNERHUB",
        twilio_url=provider.url,
        twilio_account_sid="AC" + "0" * 32,
        twilio_auth_token=SecretStr("sandbox"),
        twilio_from="+15005550006",
        twilio_content_sid="HX" + "0" * 32,
        messages_per_second=5_000,
        messages_burst=5_000,
        accept_attempts_per_minute=1_000,
        # `Sent` is what most calls are to be answered, also on a machine that stands still for a while.
        bulk_deadline_seconds=60.0,
        poll_seconds=0.1,
    )


@pytest.fixture
async def stage(settings: InvitationsSettings, issuer: Issuer) -> AsyncIterator[Stage]:
    """The service with sponsor 6 and admin 166 on it."""
    async with opened(settings, issuer) as stage:
        await stage.register(6, "Sponsor", full_name="Deniz Örnek")
        await stage.register(166, "Admin", full_name="Ada Yönetici")
        yield stage


@asynccontextmanager
async def sending(context: Context) -> AsyncIterator[None]:
    """Run the senders and the sweepers of a worker until the block ends."""

    async def sweep() -> None:
        while True:
            await sweeping.sweep_deliveries(context.database)
            await sweeping.look_up_unknown(context.database, context.providers, context.sealer)
            async with context.database.transaction() as conn:
                await sweeping.finish_jobs(conn)
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(context.sender.run()), asyncio.create_task(sweep())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
