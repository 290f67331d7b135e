"""What a running audit process holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.audit.checkpoint_directory import CheckpointDirectory, load_signing_key
from services.audit.domain.checkpoints import SigningKey, VerifierKey
from services.audit.domain.personal import PersonalData
from services.audit.settings import AuditSettings
from shared.db import Database
from shared.settings import SettingsInvalid


@dataclass(frozen=True, slots=True)
class AuditContext:
    """The database, the keys and the places outside."""

    settings: AuditSettings
    database: Database
    personal_data: PersonalData
    signing_key: SigningKey
    verifier_keys: list[VerifierKey]
    directory: CheckpointDirectory


@asynccontextmanager
async def open_context(settings: AuditSettings) -> AsyncIterator[AuditContext]:
    """Open what the process holds, and close it at the end."""
    try:
        key = load_signing_key(settings.signing_key_file, may_create=settings.environment == "development")
        former = [VerifierKey.parse(part) for part in settings.former_verifier_keys.split(",") if part.strip()]
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"audit can't start, its keys can't be read: {error}") from None
    database = Database(
        settings.database_url.get_secret_value(),
        schema=settings.service,
        pool_size=settings.database_pool_size,
        migrations=Path(__file__).parent / "migrations",
    )
    try:
        yield AuditContext(
            settings=settings,
            database=database,
            personal_data=PersonalData(settings.sealing_keys()),
            signing_key=key,
            verifier_keys=[key.verifier, *former],
            directory=CheckpointDirectory(settings.checkpoint_dir),
        )
    finally:
        await database.close()
