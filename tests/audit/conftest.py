"""A running audit service for its tests."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.audit.context import AuditContext, open_context
from services.audit.settings import AuditSettings
from tests.audit.material import SECRET_KEYS
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
