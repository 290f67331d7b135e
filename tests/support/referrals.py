"""Referrals against the sandbox: settings, a finished sign-in, its processes."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from services.referrals.commands import connection, sign_in, sync
from services.referrals.context import Context
from services.referrals.domain.sign_ins import SignInState
from services.referrals.domain.syncs import Mode, Sync
from services.referrals.settings import ReferralsSettings
from services.referrals.store import connections as connection_store
from services.referrals.store import sign_ins
from services.referrals.store import syncs as sync_store
from shared.events.audit import Actor
from tests.support.databases import FreshDatabase
from tests.support.eventually import eventually
from tests.support.microsoft import CLIENT_ID, TENANT, SandboxMicrosoft

ROOT = Path(__file__).parents[2]
ADMIN = Actor(kind="admin", id=166, roles=["Admin"])


def some_settings(sandbox: SandboxMicrosoft, fresh: FreshDatabase, **changes: Any) -> ReferralsSettings:
    """Settings as local/ would give them, pointing to the sandbox."""
    values: dict[str, Any] = {
        "database_url": SecretStr(fresh.url),
        "amqp_url": SecretStr("amqp://127.0.0.1:1"),
        "enabled": True,
        "tenant_id": TENANT,
        "client_id": CLIENT_ID,
        "authority": sandbox.url,
        "api_url": sandbox.url,
        "ca_file": sandbox.ca_file,
        "backoff_seconds": 0.01,
    }
    return ReferralsSettings(**values | changes)


async def connect(context: Context, sandbox: SandboxMicrosoft) -> None:
    """Sign in as the person would."""
    sandbox.turn(device_code_interval=0)
    begun = await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    sandbox.decide(begun.code.user_code)

    async def is_polled() -> bool:
        await sign_in.poll_due_sign_ins(context.access)
        async with context.database.connection() as conn:
            return (await sign_ins.get_sign_in(conn, begun.sign_in_id)).state is not SignInState.PENDING

    await eventually(is_polled)


async def plain_cache(context: Context, sandbox: SandboxMicrosoft) -> str:
    """Give what the older tool keeps in its `.token_cache` after a sign-in; nothing is stored any more."""
    await connect(context, sandbox)
    async with context.database.transaction() as conn:
        stored = await connection_store.find_connection(conn)
        await connection.reset_connection(conn, asked_by=ADMIN)
    assert stored is not None
    return connection.open_cache(context.access, stored)


async def events_of(context: Context, kind: str) -> list[dict[str, Any]]:
    """Give the data of the events of one type that wait in the outbox, in order."""
    async with context.database.connection() as conn:
        rows = await conn.fetch(
            "SELECT convert_from(envelope, 'UTF8')::jsonb AS envelope FROM outbox WHERE routing_key = $1 ORDER BY id",
            kind,
        )
    return [row["envelope"]["data"] for row in rows]


async def audited(context: Context) -> list[tuple[str, str]]:
    """Give action and outcome of each audit event, in order."""
    return [(event["action"], event["outcome"]) for event in await events_of(context, "referrals.audit.recorded.v1")]


@contextmanager
def a_worker(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "services.referrals", "worker"]
    with log.open("ab") as output, subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


async def run_command(environment: dict[str, str], *words: str, given: bytes = b"") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.referrals",
        *words,
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(given)
    return process.returncode or 0, output.decode()


def another_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


async def rows(context: Context, query: str, *values: Any) -> list[dict[str, Any]]:
    async with context.database.connection() as conn:
        return [dict(row) for row in await conn.fetch(query, *values)]


async def value(context: Context, query: str) -> Any:
    async with context.database.connection() as conn:
        return await conn.fetchval(query)


async def count(context: Context) -> int:
    return int(await value(context, "SELECT count(*) FROM partner_center_referrals"))


async def ask(context: Context, mode: Mode = "incremental") -> UUID:
    async with context.database.transaction() as conn:
        task, _ = await sync.request_sync(conn, context.rules, mode=mode, asked_by=ADMIN)
    return task.task_id


async def run(context: Context, task_id: UUID | None = None, mode: Mode = "incremental") -> Sync:
    task_id = task_id or await ask(context, mode)
    await sync.run_sync(context.access, context.partner_center, context.rules, task_id)
    async with context.database.connection() as conn:
        return await sync_store.get_sync(conn, task_id)
