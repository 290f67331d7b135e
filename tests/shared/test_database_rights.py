"""What each service's role may do in the database that all services share: its own rows, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from local.infrastructure import Servers
from shared.migrate import migrate
from tests.architecture.tree import ROOT

STORING = ("auth", "referrals", "invitations", "audit")
TO_ANOTHER = (
    "SELECT * FROM {} LIMIT 1",
    "DELETE FROM {}",
    "INSERT INTO {} DEFAULT VALUES",
    "TRUNCATE {} CASCADE",
    "DROP TABLE {} CASCADE",
)
TO_ITS_OWN = ("DROP TABLE {} CASCADE", "ALTER TABLE {} ADD COLUMN planted int", "TRUNCATE {} CASCADE")
TO_THE_SERVER = (
    "CREATE TABLE public.planted (id int)",
    "CREATE SCHEMA planted",
    "CREATE TEMP TABLE planted (id int)",
    "CREATE ROLE planted",
    "CREATE DATABASE planted",
    "SELECT * FROM pg_authid",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "ALTER SYSTEM SET work_mem = '1GB'",
)


def forbidden_statements(
    service: str, tables: Mapping[str, Sequence[str]], *, role: str = "partner_hub_{}", owner: str = "partner_hub"
) -> list[str]:
    """Write all that a service must not do: to the tables of every other, to the shape of its own, to the server."""
    others = [f"{other}.{table}" for other in tables if other != service for table in tables[other]]
    return [
        *(statement.format(table) for table in others for statement in TO_ANOTHER),
        *(statement.format(f"{service}.{table}") for table in tables[service] for statement in TO_ITS_OWN),
        *(f"CREATE TABLE {schema}.planted (id int)" for schema in tables),
        *(f"SET ROLE {role.format(other)}" for other in tables if other != service),
        f"SET ROLE {owner}",
        f"DELETE FROM {service}.schema_migrations",  # noqa: S608 - one of ours
        *TO_THE_SERVER,
    ]


class Shared:
    """One database with the schemas of all services, made as a deployment makes it: deploy/postgres/create-owner.sh."""

    def __init__(self, administration_url: str) -> None:
        self.administration_url = administration_url
        suffix = secrets.token_hex(4)
        self.name = f"test_rights_{suffix}"
        self.role = f"hub_{suffix}_{{}}"
        self.owner_url = self.url_of("owner")

    def url_of(self, who: str) -> str:
        """Give somebody's door to the database."""
        parts = urlsplit(self.administration_url)
        address = f"{self.role.format(who)}:password@{parts.netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=address, path=f"/{self.name}"))

    async def administer(self, *statements: str, database: str | None = None) -> None:
        """Do something as the superuser."""
        parts = urlsplit(self.administration_url)
        conn = await asyncpg.connect(urlunsplit(parts._replace(path=f"/{database}" if database else parts.path)))
        try:
            for statement in statements:
                await conn.execute(statement)
        finally:
            await conn.close()

    async def tables(self) -> dict[str, list[str]]:
        """Name the tables of each service."""
        conn = await asyncpg.connect(self.owner_url)
        try:
            rows = await conn.fetch("SELECT schemaname, tablename FROM pg_tables ORDER BY 1, 2")
        finally:
            await conn.close()
        return {service: [row[1] for row in rows if row[0] == service] for service in STORING}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(servers: Servers) -> AsyncIterator[Shared]:
    made = Shared(servers.postgres_url)
    owner = made.role.format("owner")
    await made.administer(
        f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'password'",
        f"CREATE DATABASE {made.name} OWNER {owner}",
        f"REVOKE ALL ON DATABASE {made.name} FROM PUBLIC",
    )
    for service in STORING:
        await migrate(made.owner_url, made.url_of(service), service, ROOT / "services" / service / "migrations")
    yield made
    await made.administer(f"DROP DATABASE {made.name} WITH (FORCE)")
    await made.administer(*(f"DROP ROLE {made.role.format(who)}" for who in (*STORING, "owner")))


@pytest.mark.parametrize("service", STORING)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_service_can_do_nothing_that_is_not_its_own(shared: Shared, service: str) -> None:
    tables = await shared.tables()
    conn = await asyncpg.connect(shared.url_of(service))
    allowed = []
    try:
        assert await conn.fetch(f"SELECT * FROM {service}.outbox") == []  # noqa: S608 - one of ours
        for statement in forbidden_statements(service, tables, role=shared.role, owner=shared.role.format("owner")):
            try:
                await conn.execute(statement)
                allowed.append(statement)
            except asyncpg.InsufficientPrivilegeError:
                pass
    finally:
        await conn.close()
    assert all(len(names) > 3 for names in tables.values())
    assert allowed == []


@pytest.mark.asyncio(loop_scope="module")
async def test_who_has_no_part_in_the_database_can_not_enter_it(shared: Shared) -> None:
    stranger = shared.role.format("stranger")
    await shared.administer(f"CREATE ROLE {stranger} LOGIN PASSWORD 'password'")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(shared.url_of("stranger"))
    finally:
        await shared.administer(f"DROP ROLE {stranger}")
