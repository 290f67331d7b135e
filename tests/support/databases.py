"""Fresh migrated databases for tests: one template per service, cloned per test."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from shared.db import Database
from shared.migrate import migrate

_SERVICES = Path(__file__).parents[2] / "services"
_PASSWORD = secrets.token_hex(8)


@dataclass(frozen=True)
class FreshDatabase:
    """A database of one test, with the rights that the service has in production."""

    url: str
    owner_url: str
    database: Database


class Databases:
    """Makes databases and drops them again."""

    def __init__(self, owner_url: str) -> None:
        self._owner_url = owner_url
        self._templates: dict[str, str] = {}
        self._made: list[tuple[str, Database]] = []
        self._suffix = secrets.token_hex(4)

    async def make(self, service: str) -> FreshDatabase:
        """Clone a fresh database of a service."""
        template = await self._template(service)
        name = f"test_{service}_{secrets.token_hex(6)}"
        await self._administer(f"CREATE DATABASE {name} TEMPLATE {template}")
        url = _with(self._owner_url, path=name, user=self._role(service), password=_PASSWORD)
        database = Database(url, schema=service)
        self._made.append((name, database))
        return FreshDatabase(url, _with(self._owner_url, path=name), database)

    async def drop_all(self) -> None:
        """Close and drop what was cloned."""
        for name, database in self._made:
            await database.close()
            await self._administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.clear()

    async def drop_templates(self) -> None:
        """Drop the templates."""
        for name in self._templates.values():
            await self._administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _role(self, service: str) -> str:
        return f"{service}_{self._suffix}"

    async def _template(self, service: str) -> str:
        if service not in self._templates:
            name = f"template_{service}_{self._suffix}"
            await self._administer(f"CREATE DATABASE {name}")
            owner_url = _with(self._owner_url, path=name)
            service_url = _with(owner_url, path=name, user=self._role(service), password=_PASSWORD)
            await migrate(owner_url, service_url, service, _SERVICES / service / "migrations")
            self._templates[service] = name
        return self._templates[service]

    async def _administer(self, sql: str) -> None:
        conn = await asyncpg.connect(self._owner_url)
        try:
            await conn.execute(sql)
        finally:
            await conn.close()


def _with(url: str, *, path: str, user: str | None = None, password: str | None = None) -> str:
    parts = urlsplit(url)
    netloc = parts.netloc
    if user is not None:
        netloc = f"{user}:{password}@{netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{path}"))
