"""Services start in any order: before the broker, before the database, before the migrations; they wait and say so."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from local import infrastructure
from local.processes import free_port
from local.sql import query
from shared.bus.declare import declare
from shared.migrate import migrate
from tests.support.databases import Databases, FreshDatabase
from tests.support.eventually import eventually
from tests.support.stacks import ROOT


@pytest.fixture
async def fresh(breakable: infrastructure.Servers) -> AsyncIterator[FreshDatabase]:
    databases = Databases(breakable.postgres_url)
    yield await databases.make("auth")
    await databases.drop_all()
    await databases.drop_templates()


@contextmanager
def auth(role: str, database_url: str, amqp_url: str, log: Path) -> Iterator[str]:
    """Run a role of auth; gives its address."""
    port = str(free_port())
    environment = {
        "PATH": os.environ["PATH"],
        "AUTH_DATABASE_URL": database_url,
        "AUTH_AMQP_URL": amqp_url,
        "AUTH_SECRET_KEYS": base64.b64encode(bytes(range(32))).decode(),
        "AUTH_RESET_DELIVERY": "log",
        "AUTH_PORT": port,
        "AUTH_WORKER_PORT": port,
    }
    with log.open("ab") as output:
        command = [sys.executable, "-m", "services.auth", role]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None, "it waits, it does not end"
    finally:
        process.kill()
        process.wait()


async def answer(url: str, body: dict[str, str] | None = None) -> httpx.Response | None:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return await (client.post(url, json=body) if body else client.get(url))
        except httpx.TransportError:
            return None


async def first_answer(ask: Callable[[], Awaitable[httpx.Response | None]]) -> httpx.Response:
    """Wait for a process that is coming up."""
    response = await eventually(ask, what="an answer")
    assert response is not None
    return response


async def ask_for_reset(url: str) -> httpx.Response | None:
    return await answer(f"{url}/api/v1/auth/request-password-reset", {"email": "nobody@example.com"})


async def accepts(url: str) -> bool:
    accepted = await ask_for_reset(url)
    return accepted is not None and accepted.status_code == 200


async def test_without_a_broker_apis_accept_and_workers_wait_and_say_so(
    breakable: infrastructure.Servers, fresh: FreshDatabase, tmp_path: Path
) -> None:
    log = tmp_path / "auth.log"
    await asyncio.to_thread(breakable.broker.kill)
    try:
        with (
            auth("api", fresh.url, breakable.amqp_url, log) as api,
            auth("worker", fresh.url, breakable.amqp_url, log) as worker,
        ):
            await eventually(lambda: accepts(api), what="an api that accepts")
            health = await first_answer(lambda: answer(f"{worker}/readyz"))
            assert health.status_code == 503
            await eventually(lambda: "broker" in log.read_text(), what="a word about the broker")
            assert not await is_ready(worker)
            await asyncio.to_thread(breakable.broker.start)
            await eventually(lambda: is_ready(worker), what="readiness once the broker is there")
            await eventually(lambda: "a reset request was served" in log.read_text(), what="the work that was accepted")
    finally:
        await asyncio.to_thread(breakable.broker.start)


async def test_without_a_database_apis_answer_503_and_recover_by_themselves(
    breakable: infrastructure.Servers, fresh: FreshDatabase, tmp_path: Path
) -> None:
    await asyncio.to_thread(breakable.postgres.kill)
    try:
        with auth("api", fresh.url, breakable.amqp_url, tmp_path / "auth.log") as api:
            refused = await first_answer(lambda: ask_for_reset(api))
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["code"] == "DATABASE_UNAVAILABLE"
            await asyncio.to_thread(breakable.postgres.start)
            await eventually(lambda: accepts(api), what="recovery without a restart")
    finally:
        await asyncio.to_thread(breakable.postgres.start)


async def test_before_the_migrations_an_api_says_what_it_waits_for(
    breakable: infrastructure.Servers, fresh: FreshDatabase, tmp_path: Path
) -> None:
    early = fresh.url.replace("/test_auth", "/postgres#").partition("#")[0]  # a database without our schema
    with auth("api", early, breakable.amqp_url, tmp_path / "auth.log") as api:
        refused = await first_answer(lambda: ask_for_reset(api))
        assert refused.status_code == 503
        assert "not migrated" in refused.json()["detail"]


async def test_the_migrations_may_come_after_the_services(
    breakable: infrastructure.Servers, fresh: FreshDatabase, tmp_path: Path
) -> None:
    log = tmp_path / "auth.log"
    name = f"later_{secrets.token_hex(4)}"
    owner_url = fresh.owner_url.replace(urlsplit(fresh.owner_url).path, f"/{name}")
    url = fresh.url.replace(urlsplit(fresh.url).path, f"/{name}")
    await asyncio.to_thread(query, fresh.owner_url, f"CREATE DATABASE {name}")
    try:
        with (
            auth("api", url, breakable.amqp_url, log) as api,
            auth("worker", url, breakable.amqp_url, log) as worker,
        ):
            for role in (api, worker):
                await eventually(partial(says, role, "not migrated"), what="a word about the migrations")
                assert not await is_ready(role)
            await migrate(owner_url, url, "auth", ROOT / "services" / "auth" / "migrations")
            for role in (api, worker):
                await eventually(partial(is_ready, role), what="readiness once it is migrated")
            await eventually(lambda: accepts(api), what="an api that accepts")
            await eventually(lambda: "a reset request was served" in log.read_text(), what="the work that was accepted")
    finally:
        await asyncio.to_thread(query, fresh.owner_url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_the_topology_may_come_after_the_services(
    breakable: infrastructure.Servers, fresh: FreshDatabase, tmp_path: Path
) -> None:
    log = tmp_path / "auth.log"
    await asyncio.to_thread(breakable.broker.ctl, "delete_queue", "auth.events")
    with (
        auth("api", fresh.url, breakable.amqp_url, log) as api,
        auth("worker", fresh.url, breakable.amqp_url, log) as worker,
    ):
        await eventually(lambda: accepts(api), what="an api that accepts")
        await eventually(lambda: "auth.events" in log.read_text(), what="a word about the missing queue")
        assert not await is_ready(worker)
        await declare(breakable.amqp_url)
        await eventually(lambda: is_ready(worker))
        await eventually(lambda: "a reset request was served" in log.read_text(), what="the work that was accepted")


async def says(url: str, words: str) -> bool:
    health = await answer(f"{url}/readyz")
    return health is not None and words in health.text


async def is_ready(url: str) -> bool:
    health = await answer(f"{url}/readyz")
    return health is not None and health.status_code == 200


async def test_migrating_twice_changes_nothing(fresh: FreshDatabase) -> None:
    assert await migrate(fresh.owner_url, fresh.url, "auth", ROOT / "services" / "auth" / "migrations") == []
