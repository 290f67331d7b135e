"""A whole auth service in the test's own process, on a real Postgres."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
import pytest

from services.auth.app import create_app
from services.auth.consumers import deliver_reset_token
from services.auth.context import Context, make_context
from services.auth.domain.hashing import HashCost, PasswordHasher
from services.auth.settings import AuthSettings
from services.auth.store import accounts
from shared import db
from shared.events import AuditRecorded, Event, PasswordResetRequested, decode
from tests.support.asgi import calling
from tests.support.databases import Databases, FreshDatabase

PASSWORD = "otter lantern quiver mosaic"
OTHER_PASSWORD = "glacier trumpet walnut prism"
API = "/api/v1/auth"
CONNECTIONS = 20
E = TypeVar("E", bound=Event)


@dataclass
class Clock:
    """Today's time, moved on by what a test does not want to wait for; once held, by that alone."""

    ahead: timedelta = timedelta(0)
    held: datetime | None = None

    def __call__(self) -> datetime:
        return (self.held or datetime.now(UTC)) + self.ahead

    def hold(self) -> None:
        """Let no second pass, where a rule of some seconds meets a machine that may take longer."""
        self.held = datetime.now(UTC)

    def move(self, **span: float) -> None:
        self.ahead += timedelta(**span)


@dataclass
class Auth:
    """The service under test and what tests do with it all the time."""

    client: httpx.AsyncClient
    context: Context
    clock: Clock
    fresh: FreshDatabase
    capsys: pytest.CaptureFixture[str]
    delivered: int = 0
    printed: str = ""
    answers: list[httpx.Response] = field(default_factory=list)

    async def add(self, email: str, *roles: str, password: str | None = PASSWORD, **more: Any) -> int:
        """Make an account, by default one that can sign in."""
        async with self.context.database.transaction() as conn:
            now = self.clock()
            account = await accounts.insert_account(
                conn, email=email, full_name=more.pop("full_name", "Deniz Örnek"), roles=frozenset(roles), now=now
            )
            hashed = await self.context.hasher.hash(password) if password else None
            await conn.execute("UPDATE adminuser SET password_hash = $2 WHERE id = $1", account.id, hashed)
            for column, value in more.items():
                await conn.execute(f"UPDATE adminuser SET {column} = $2 WHERE id = $1", account.id, value)  # noqa: S608
        return account.id

    async def post(self, path: str, body: Any = None, token: str | None = None, **more: Any) -> httpx.Response:
        return await self.call("POST", path, body, token, **more)

    async def call(
        self, method: str, path: str, body: Any = None, token: str | None = None, **more: Any
    ) -> httpx.Response:
        headers = more.pop("headers", {}) | ({"authorization": f"Bearer {token}"} if token else {})
        content = {"json": body} if body is not None else {}
        answer = await self.client.request(method, API + path, headers=headers, **content, **more)
        self.answers.append(answer)
        return answer

    async def login(self, email: str, password: str = PASSWORD, **more: Any) -> httpx.Response:
        return await self.post("/login", {"email": email, "password": password, **more})

    async def signed_in(self, email: str, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
        answer = await self.login(email, password, **more)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    async def token_of(self, email: str, password: str = PASSWORD, **more: Any) -> str:
        return str((await self.signed_in(email, password, **more))["access_token"])

    async def events(self, kind: type[E]) -> list[E]:
        """Give the events of one kind that wait in the outbox."""
        async with self.context.database.connection() as conn:
            rows = await conn.fetch("SELECT envelope FROM outbox ORDER BY id")
        found = [decode(row["envelope"]).event for row in rows]
        return [event for event in found if isinstance(event, kind)]

    async def audit(self, action: str) -> list[AuditRecorded]:
        return [event for event in await self.events(AuditRecorded) if event.action == action]

    async def deliver(self) -> None:
        """Do what the worker does with the reset requests that are new since the last time."""
        requests = await self.events(PasswordResetRequested)
        new, self.delivered = requests[self.delivered :], len(requests)
        for request in new:
            await deliver_reset_token(self.context, request)

    def tokens_printed(self, email: str) -> list[str]:
        """Give the reset tokens that the worker's log shows, oldest first."""
        self.printed += self.capsys.readouterr().out
        return re.findall(rf"^\[Password Reset\] Token for {re.escape(email)}: (\S+)$", self.printed, re.MULTILINE)

    async def reset_token(self, email: str) -> str:
        """Ask for a reset and give the token."""
        answer = await self.post("/request-password-reset", {"email": email})
        assert answer.status_code == 200, answer.text
        await self.deliver()
        return self.tokens_printed(email)[-1]

    async def id_of(self, email: str) -> int:
        async with self.context.database.connection() as conn:
            return int(await conn.fetchval("SELECT id FROM adminuser WHERE email = $1", email))

    async def row(self, account_id: int) -> dict[str, Any]:
        async with self.context.database.connection() as conn:
            return dict(await conn.fetchrow("SELECT * FROM adminuser WHERE id = $1", account_id) or {})

    async def execute(self, sql: str, *values: Any) -> None:
        async with self.context.database.connection() as conn:
            await conn.execute(sql, *values)


def outcome(answer: httpx.Response) -> tuple[int, str]:
    """Give status and code."""
    return answer.status_code, answer.json().get("code", "")


def comparable(answer: httpx.Response) -> tuple[int, Any, Any]:
    """Give what may be equal of two answers: all but the ids of the requests."""
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, body, headers


def settings_for(fresh: FreshDatabase, **more: Any) -> AuthSettings:
    """Make settings of a service on this database."""
    return AuthSettings(database_url=fresh.url, amqp_url="amqp://127.0.0.1:1", database_pool_size=CONNECTIONS, **more)


@pytest.fixture
async def auth(
    databases: Databases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Auth]:
    # Two hundred callers wait for their turn at the database as well.
    monkeypatch.setattr(db, "_CONNECT_SECONDS", 30.0)
    fresh = await databases.make("auth")
    clock = Clock()
    made = make_context(settings_for(fresh), clock=clock)
    made.hasher.close()
    # The real parameters are checked in test_domain; here they would only cost time, and a slow machine its patience.
    context = replace(made, hasher=PasswordHasher(HashCost(memory_kib=64, passes=1), threads=2, longest_wait=60))
    async with calling(create_app(settings_for(fresh), context)) as client:
        yield Auth(client, context, clock, fresh, capsys)
