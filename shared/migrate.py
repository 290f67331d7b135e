"""The migrate step of a service: its schema, its login role with rights on that schema alone, its migrations in order.

Run by the owner of the database before new code starts; the previous version of the code can run on the new schema.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

import asyncpg

from shared.backoff import Backoff
from shared.settings import find_setting

log = logging.getLogger(__name__)
T = TypeVar("T")

_SHARED: Final = Path(__file__).parent / "migrations"
_NAME: Final = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
# Migrations of all services wait for one another; any fixed number will do.
_LOCK: Final = 7_261_001
_WAIT_SECONDS: Final = 60.0
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidCatalogNameError,  # a server that is being set up has not made it yet
)
_IN_USE: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class MigrationRefused(SystemExit):
    """The migrations on disk do not fit those that were applied."""


def migrate_step(service: str, migrations: Path) -> str:
    """Carry out the migrate role of a service, which needs two addresses and no other setting; gives what was done."""
    own_variable = f"{service.upper()}_DATABASE_URL"
    owner_url, service_url = find_setting("OWNER_DATABASE_URL"), find_setting(own_variable, "DATABASE_URL")
    if owner_url is None:
        sys.exit("Set OWNER_DATABASE_URL to a Postgres user who may create schemas and roles.")
    if service_url is None:
        sys.exit(f"Set {own_variable} (or DATABASE_URL) to the address at which {service} will sign in.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        applied = asyncio.run(migrate(owner_url, service_url, service, migrations, wait_seconds=_WAIT_SECONDS))
    except (*_AWAY, asyncpg.PostgresError) as error:
        sys.exit(f"{service}: not migrated, the database says: {str(error) or type(error).__name__}")
    return f"{service}: {len(applied)} migrations applied"


async def migrate(
    owner_url: str, service_url: str, schema: str, migrations: Path, *, wait_seconds: float = 0.0
) -> list[str]:
    """Bring one service's schema up to date; gives the names of what was applied now.

    Waits so long for a database that is away, and for a table that is in use.
    """
    conn = await _patiently(lambda: asyncpg.connect(owner_url, timeout=10), _AWAY, wait_seconds)
    try:
        await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
        async with conn.transaction():
            await _prepare_schema(conn, schema, service_url)
        applied = []
        for name, sql in _scripts(migrations):
            apply = partial(_apply, conn, schema, name, sql)
            if await _patiently(apply, _IN_USE, wait_seconds):
                applied.append(name)
        return applied
    finally:
        await conn.close()


def names(migrations: Path) -> list[str]:
    """Name every migration that must have been applied before this code can work."""
    return [name for name, _ in _scripts(migrations)]


async def _patiently(work: Callable[[], Awaitable[T]], errors: tuple[type[Exception], ...], wait_seconds: float) -> T:
    """Do it; while it fails in one of these ways, wait and try again."""
    deadline, backoff = time.monotonic() + wait_seconds, Backoff()
    while True:
        try:
            return await work()
        except errors as error:
            if time.monotonic() > deadline:
                raise
            log.info("waiting: %s", str(error) or type(error).__name__)
            await asyncio.sleep(backoff.seconds())


def _scripts(migrations: Path) -> list[tuple[str, str]]:
    scripts = []
    for prefix, folder in (("shared/", _SHARED), ("", migrations)):
        for path in sorted(folder.glob("*.sql")):
            if not _NAME.fullmatch(path.name):
                raise MigrationRefused(f"{path.name} is not named NNNN_verb_noun.sql")
            scripts.append((prefix + path.stem, path.read_text()))
    return scripts


async def _prepare_schema(conn: asyncpg.Connection[asyncpg.Record], schema: str, service_url: str) -> None:
    """Make schema and role; the owner keeps the tables, the service's role gets rows only."""
    url = urlsplit(service_url)
    role, password = unquote(url.username or ""), unquote(url.password or "")
    owner = await conn.fetchval("SELECT current_user")
    await conn.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
    await conn.execute(f"SET search_path = {_quoted(schema)}")
    await conn.execute("SELECT set_config('partner_hub.role', $1, false)", role or owner)
    await conn.execute(
        """CREATE TABLE IF NOT EXISTS schema_migrations (
               name text CONSTRAINT schema_migrations_pkey PRIMARY KEY,
               checksum text NOT NULL,
               applied_at timestamptz NOT NULL DEFAULT now())"""
    )
    # Only now the rights on tables that will be made: what was applied is not the service's to change.
    if role and role != owner:
        exists = await conn.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
        verb = "ALTER" if exists else "CREATE"
        await conn.execute(f"{verb} ROLE {_quoted(role)} LOGIN PASSWORD {_literal(password)}")
        await conn.execute(f"ALTER ROLE {_quoted(role)} SET search_path = {_quoted(schema)}")
        database = await conn.fetchval("SELECT current_database()")
        if not await conn.fetchval("SELECT has_database_privilege($1, $2, 'CONNECT')", role, database):
            await conn.execute(f"GRANT CONNECT ON DATABASE {_quoted(database)} TO {_quoted(role)}")
        await conn.execute(f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {_quoted(role)}")
        # To see whether it may start to work, not to change what was applied.
        await conn.execute(f"GRANT SELECT ON schema_migrations TO {_quoted(role)}")
        for rights in (
            "SELECT, INSERT, UPDATE, DELETE ON TABLES",
            "USAGE, SELECT ON SEQUENCES",
            "EXECUTE ON FUNCTIONS",
        ):
            await conn.execute(
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA {_quoted(schema)} GRANT {rights} TO {_quoted(role)}"
            )


async def _apply(conn: asyncpg.Connection[asyncpg.Record], schema: str, name: str, sql: str) -> bool:
    checksum = hashlib.sha256(sql.encode()).hexdigest()
    known = await conn.fetchval("SELECT checksum FROM schema_migrations WHERE name = $1", name)
    if known == checksum:
        return False
    if known is not None:
        raise MigrationRefused(f"{schema}: migration {name} was edited after it was applied; write a new one instead")
    async with conn.transaction():
        # A migration that waits for a lock would queue the whole service behind itself.
        await conn.execute("SET LOCAL lock_timeout = '4s'")
        await conn.execute(sql)
        await conn.execute("INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)", name, checksum)
    return True


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
