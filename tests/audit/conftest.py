"""A running audit service for its tests."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from local.processes import free_port
from services.audit import store
from services.audit.context import AuditContext, open_context
from services.audit.domain.chain import extend, head_after
from services.audit.settings import AuditSettings
from shared.db import Connection as Owner
from tests.audit.material import SECRET_KEYS, a_content, a_signed_checkpoint, an_arrival, sealed
from tests.support.databases import Databases, FreshDatabase


@pytest.fixture
async def fresh(databases: Databases) -> FreshDatabase:
    """A database of audit, with the rights that the service has."""
    return await databases.make("audit")


@pytest.fixture
def settings(fresh: FreshDatabase, tmp_path: Path) -> AuditSettings:
    """Settings of a development audit service."""
    return AuditSettings(
        database_url=SecretStr(fresh.url),
        amqp_url=SecretStr("amqp://127.0.0.1:1"),
        secret_keys=SecretStr(",".join(base64.b64encode(key).decode() for key in SECRET_KEYS)),
        signing_key_file=tmp_path / "signing-key.pem",
        checkpoint_dir=tmp_path / "checkpoints",
        source_grace_seconds=0,
    )


@pytest.fixture
async def context(settings: AuditSettings) -> AsyncIterator[AuditContext]:
    """What a running audit process holds."""
    async with open_context(settings) as opened:
        yield opened


@pytest.fixture
async def log_of_ten(context: AuditContext) -> str:
    """Ten records in two batches, and a checkpoint that somebody outside has kept."""
    for start in (1, 6):
        await sealed(context, *[an_arrival(sequence=number) for number in range(start, start + 5)])
    return await a_signed_checkpoint(context)


@pytest.fixture
async def owner(fresh: FreshDatabase) -> AsyncIterator[Owner]:
    """The owner of the database, with every trigger off."""
    conn = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": "audit"})
    await conn.execute("SET session_replication_role = replica")
    yield conn
    await conn.close()


@pytest.fixture
def environment(context: AuditContext, broker: str) -> dict[str, str]:
    """The variables of an audit process that works on the test's database."""
    settings = context.settings
    return os.environ | {
        "AUDIT_DATABASE_URL": settings.database_url.get_secret_value(),
        "AUDIT_AMQP_URL": broker,
        "AUDIT_SECRET_KEYS": settings.secret_keys.get_secret_value(),
        "AUDIT_SIGNING_KEY_FILE": str(settings.signing_key_file),
        "AUDIT_CHECKPOINT_DIR": str(settings.checkpoint_dir),
        "AUDIT_WORKER_PORT": str(free_port()),
    }


@pytest.fixture
async def months(context: AuditContext, fresh: FreshDatabase, environment: dict[str, str]) -> dict[str, str]:
    """Three records a month from January to March, two today, and a checkpoint; gives the operator's environment."""
    owner = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": "audit"})
    for month in (1, 2, 3):
        await owner.execute("SELECT make_partition($1)", datetime(2026, month, 1, tzinfo=UTC))
    await owner.close()
    async with context.database.transaction() as conn:
        head, _ = await store.lock_head(conn)
        for number in range(9):
            now = datetime(2026, 1 + number // 3, 5 + number, tzinfo=UTC)
            records = extend(head, [a_content(sequence=number + 1)], now)
            await store.insert_records(conn, records)
            head = head_after(head, records, now)
        await store.save_head(conn, head)
    await sealed(context, an_arrival(sequence=1), an_arrival(sequence=2))
    await a_signed_checkpoint(context)
    return environment | {"OWNER_DATABASE_URL": fresh.owner_url}
