"""The migrate step can be run as often and by as many as one likes, and refuses what would lie about history."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from local.environment import STORING
from local.infrastructure import Servers
from shared.db import Database, DatabaseUnavailable
from shared.migrate import MigrationRefused, migrate, migrate_step, names

SERVICES = Path(__file__).parents[2] / "services"
SHARED = ["shared/0001_create_outbox_and_inbox"]


class Target:
    """An empty database and the two ways into it."""

    def __init__(self, owner_url: str) -> None:
        parts = urlsplit(owner_url)
        self.name = f"test_migrate_{secrets.token_hex(6)}"
        self.role = f"postoffice_{secrets.token_hex(4)}"
        self.administration_url = owner_url
        self.owner_url = urlunsplit(parts._replace(path=f"/{self.name}"))
        # A password with what both URLs and SQL give a meaning to.
        address = f"{self.role}:p%27%40ss@{parts.netloc.rpartition('@')[2]}"
        self.service_url = urlunsplit(parts._replace(netloc=address, path=f"/{self.name}"))

    async def fetch(
        self, sql: str, *, as_service: bool = False, as_administrator: bool = False
    ) -> list[asyncpg.Record]:
        administrator = urlunsplit(urlsplit(self.administration_url)._replace(path=f"/{self.name}"))
        conn = await asyncpg.connect(
            administrator if as_administrator else self.service_url if as_service else self.owner_url
        )
        try:
            return await conn.fetch(sql)
        finally:
            await conn.close()

    async def administer(self, sql: str) -> None:
        conn = await asyncpg.connect(self.administration_url)
        try:
            await conn.execute(sql)
        finally:
            await conn.close()


@pytest.fixture
async def target(servers: Servers) -> AsyncIterator[Target]:
    made = Target(servers.postgres_url)
    await made.administer(f"CREATE DATABASE {made.name}")
    yield made
    await made.administer(f"DROP DATABASE {made.name} WITH (FORCE)")
    await made.administer(f"DROP ROLE IF EXISTS {made.role}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_create_parcels.sql").write_text("CREATE TABLE parcels (id integer);")
    return tmp_path


async def run(target: Target, folder: Path) -> list[str]:
    return await migrate(target.owner_url, target.service_url, "postoffice", folder)


async def test_an_empty_database_gets_schema_role_and_every_migration_in_order(target: Target, folder: Path) -> None:
    (folder / "0002_add_weight.sql").write_text("ALTER TABLE parcels ADD COLUMN weight integer;")

    assert await run(target, folder) == [*SHARED, "0001_create_parcels", "0002_add_weight"]

    await target.fetch("INSERT INTO parcels (id, weight) VALUES (1, 2)", as_service=True)
    assert [row["weight"] for row in await target.fetch("SELECT weight FROM postoffice.parcels")] == [2]


async def test_running_it_twice_is_nothing(target: Target, folder: Path) -> None:
    await run(target, folder)
    before = await target.fetch("SELECT * FROM postoffice.schema_migrations ORDER BY name")

    assert await run(target, folder) == []
    assert await target.fetch("SELECT * FROM postoffice.schema_migrations ORDER BY name") == before


async def test_only_what_is_new_is_applied(target: Target, folder: Path) -> None:
    await run(target, folder)
    (folder / "0002_add_weight.sql").write_text("ALTER TABLE parcels ADD COLUMN weight integer;")

    assert await run(target, folder) == ["0002_add_weight"]


async def test_a_migration_that_was_edited_after_it_was_applied_is_refused(target: Target, folder: Path) -> None:
    await run(target, folder)
    (folder / "0001_create_parcels.sql").write_text("CREATE TABLE parcels (id bigint);")

    with pytest.raises(
        MigrationRefused, match=r"postoffice: migration 0001_create_parcels was edited.*write a new one"
    ):
        await run(target, folder)


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_can_be_repaired(
    target: Target, folder: Path
) -> None:
    second = folder / "0002_add_weight.sql"
    second.write_text("ALTER TABLE parcels ADD COLUMN weight integer; SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await run(target, folder)

    second.write_text("ALTER TABLE parcels ADD COLUMN weight integer;")
    assert await run(target, folder) == ["0002_add_weight"]


@pytest.mark.parametrize("name", ["1_create_parcels.sql", "0002-add-weight.sql", "0002_Add.sql"])
async def test_a_file_with_another_kind_of_name_is_refused(target: Target, folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1;")

    with pytest.raises(MigrationRefused, match=name):
        await run(target, folder)


async def test_many_that_run_it_at_once_apply_each_migration_once(target: Target, folder: Path) -> None:
    applied = await asyncio.gather(*(run(target, folder) for _ in range(5)))

    assert sorted(name for names in applied for name in names) == ["0001_create_parcels", *SHARED]


async def test_a_migration_that_must_wait_for_a_lock_gives_up_soon(target: Target, folder: Path) -> None:
    """It would queue everything else that wants the table behind itself."""
    await run(target, folder)
    (folder / "0002_add_weight.sql").write_text("ALTER TABLE parcels ADD COLUMN weight integer;")
    reader = await asyncpg.connect(target.owner_url)
    try:
        async with reader.transaction():
            await reader.execute("SELECT * FROM postoffice.parcels")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await run(target, folder)
    finally:
        await reader.close()

    assert await run(target, folder) == ["0002_add_weight"]


async def test_a_new_password_in_the_url_becomes_the_roles_password(target: Target, folder: Path) -> None:
    await run(target, folder)
    target.service_url = target.service_url.replace("p%27%40ss", "another")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await target.fetch("SELECT 1", as_service=True)

    await run(target, folder)

    assert await target.fetch("SELECT 1", as_service=True)


async def test_a_migration_can_name_the_services_role(target: Target, folder: Path) -> None:
    (folder / "0002_forbid_changes.sql").write_text(
        """DO $$ BEGIN
               EXECUTE format('REVOKE UPDATE, DELETE ON parcels FROM %I', current_setting('partner_hub.role'));
           END $$;"""
    )
    await run(target, folder)

    await target.fetch("INSERT INTO parcels VALUES (1)", as_service=True)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await target.fetch("DELETE FROM parcels", as_service=True)


async def test_two_services_in_one_database_can_not_see_each_others_tables(target: Target, folder: Path) -> None:
    await run(target, folder)
    other_role = f"{target.role}_other"
    other_url = target.service_url.replace(f"//{target.role}:", f"//{other_role}:")
    await migrate(target.owner_url, other_url, "bakery", folder)
    try:
        await target.fetch("SELECT * FROM parcels", as_service=True)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await target.fetch("SELECT * FROM bakery.parcels", as_service=True)
    finally:
        await target.fetch(f"DROP OWNED BY {other_role}")
        await target.fetch(f"DROP ROLE {other_role}")


async def test_the_owner_need_not_be_a_superuser_and_lets_the_services_role_in(target: Target, folder: Path) -> None:
    """As a deployment has it: everybody is shut out of the database, and the owner makes roles and nothing more."""
    owner = f"{target.role}_owner"
    await target.administer(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'owner'")
    await target.administer(f"ALTER DATABASE {target.name} OWNER TO {owner}")
    await target.administer(f"REVOKE ALL ON DATABASE {target.name} FROM PUBLIC")
    parts = urlsplit(target.owner_url)
    target.owner_url = urlunsplit(parts._replace(netloc=f"{owner}:owner@{parts.netloc.rpartition('@')[2]}"))
    try:
        await run(target, folder)
        assert await run(target, folder) == []
        await target.fetch("INSERT INTO parcels VALUES (1)", as_service=True)
        for forbidden in ("CREATE TABLE mine (id int)", "CREATE SCHEMA mine", "CREATE TEMP TABLE mine (id int)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await target.fetch(forbidden, as_service=True)
    finally:
        await target.administer(f"ALTER DATABASE {target.name} OWNER TO CURRENT_USER")
        await target.fetch(f"REASSIGN OWNED BY {owner} TO CURRENT_USER", as_administrator=True)
        for role in (target.role, owner):
            await target.fetch(f"DROP OWNED BY {role}", as_administrator=True)
            await target.administer(f"DROP ROLE {role}")


def test_the_step_needs_two_addresses_and_no_other_setting(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("OWNER_DATABASE_URL", "DATABASE_URL", "POSTOFFICE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match="OWNER_DATABASE_URL"):
        migrate_step("postoffice", folder)
    monkeypatch.setenv("OWNER_DATABASE_URL", "postgresql://owner@127.0.0.1/hub")
    with pytest.raises(SystemExit, match=r"POSTOFFICE_DATABASE_URL \(or DATABASE_URL\)"):
        migrate_step("postoffice", folder)


async def test_a_table_that_is_in_use_is_waited_for(target: Target, folder: Path) -> None:
    await run(target, folder)
    (folder / "0002_add_weight.sql").write_text("ALTER TABLE parcels ADD COLUMN weight integer;")
    reader = await asyncpg.connect(target.owner_url)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("SELECT * FROM postoffice.parcels")
    waiting = asyncio.create_task(migrate(target.owner_url, target.service_url, "postoffice", folder, wait_seconds=60))
    await asyncio.wait({waiting}, timeout=5)  # longer than a migration may wait for its lock
    assert not waiting.done()
    await transaction.rollback()
    await reader.close()
    assert await waiting == ["0002_add_weight"]


async def test_the_owner_of_the_database_needs_no_more_than_to_make_roles(servers: Servers) -> None:
    """As CloudNativePG makes it: no superuser. Every service's real migrations."""
    target = Target(servers.postgres_url)
    owner = f"owner_{secrets.token_hex(4)}"
    await target.administer(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'secret'")
    await target.administer(f"CREATE DATABASE {target.name} OWNER {owner}")
    roles = []
    try:
        parts = urlsplit(target.owner_url)
        place = parts.netloc.rpartition("@")[2]
        owner_url = urlunsplit(parts._replace(netloc=f"{owner}:secret@{place}"))
        for service in STORING:
            roles.append(f"{service}_{secrets.token_hex(4)}")
            url = urlunsplit(parts._replace(netloc=f"{roles[-1]}:secret@{place}"))
            folder = SERVICES / service / "migrations"
            assert await migrate(owner_url, url, service, folder) == names(folder)
            assert await migrate(owner_url, url, service, folder) == []
            database = Database(url, schema=service, migrations=folder)
            await database.ping()
            await database.close()
    finally:
        await target.administer(f"DROP DATABASE {target.name} WITH (FORCE)")
        for role in (*roles, owner):
            await target.administer(f"DROP ROLE IF EXISTS {role}")


async def test_code_that_is_newer_than_the_schema_is_not_ready_and_older_code_is(target: Target, folder: Path) -> None:
    await run(target, folder)
    old = Database(target.service_url, schema="postoffice", migrations=folder)
    newer = folder / "newer"
    newer.mkdir()
    for name in ("0001_create_parcels.sql", "0002_add_weight.sql"):
        (newer / name).write_text("CREATE TABLE parcels (id integer);")
    (newer / "0002_add_weight.sql").write_text("ALTER TABLE parcels ADD COLUMN weight integer;")
    new = Database(target.service_url, schema="postoffice", migrations=newer)
    try:
        await old.ping()
        with pytest.raises(DatabaseUnavailable, match="0002_add_weight is missing"):
            await new.ping()
        await run(target, newer)
        await new.ping()
        await old.ping()
    finally:
        await old.close()
        await new.close()


def test_without_a_database_the_step_waits_and_then_says_so_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.migrate._WAIT_SECONDS", 1.0)
    monkeypatch.setenv("OWNER_DATABASE_URL", "postgresql://owner:none@127.0.0.1:1/none")
    monkeypatch.setenv("POSTOFFICE_DATABASE_URL", "postgresql://postoffice:none@127.0.0.1:1/none")
    started = time.monotonic()
    with pytest.raises(SystemExit, match=r"^postoffice: not migrated, the database says: .*127\.0\.0\.1"):
        migrate_step("postoffice", folder)
    assert time.monotonic() - started > 1
