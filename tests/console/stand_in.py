"""A gateway with its console, and behind it one program that stands for the services and says what a test wants."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.gateway.raw import Line, raw_service
from tests.gateway.running import Running, running_gateway
from tests.support.tokens import Issuer

LOGIN = "POST /api/v1/auth/login"
ME = "GET /api/v1/auth/me"
READY = (200, {"status": "ready", "parts": {}})
REFRESH = "POST /api/v1/auth/refresh"
FORM_KEY = re.compile(r'name="form_key" value="([^"]+)"')
PASSWORD = "four plain words together"
PEOPLE = {"admin": (166, "Admin"), "sponsor": (6, "Sponsor"), "auditor": (8, "Auditor"), "player": (9, "Player")}


@dataclass
class Asked:
    """One request that reached the services."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return orjson.loads(self.body)


Given = tuple[int, Any]
Answer = Given | Callable[[Asked], Given]


@dataclass
class Services:
    """What the services answer, by method and path, and what they were asked."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)  # what is answered by half

    def to(self, key: str) -> list[Asked]:
        """Give what was asked of one address."""
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == key]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Answer as the test said."""
        self.asked.append(asked)
        said: Answer = self.answers.get(
            f"{asked.method} {asked.path}", (404, refusal("NOT_FOUND", "There is no such thing."))
        )
        if isinstance(said, tuple):
            return said
        return said(asked)

    async def serve(self, line: Line) -> None:
        """Serve a connection."""
        while True:
            first, *lines = (await line.head()).decode("latin-1").strip().split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
            body = await line.reader.readexactly(int(headers.get("content-length", "0")))
            path, _, query = target.partition("?")
            status, content = self.answer(Asked(method, path, query, headers, body))
            data = content if isinstance(content, bytes) else orjson.dumps(content)
            if f"{method} {path}" in self.cut:
                await line.say(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
                return
            await line.say(
                b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (status, len(data), data)
            )


def refusal(code: str, detail: str, **more: Any) -> dict[str, Any]:
    """Write a problem as services do."""
    return {"code": code, "detail": detail, **more}


def tokens_for(issuer: Issuer, who: str, *, number: int = 1, expires_in: int = 600, **claims: Any) -> dict[str, Any]:
    """Write auth's answer to a sign-in or a refresh."""
    account_id, *roles = PEOPLE[who]
    user = {
        "id": account_id,
        "email": f"{who}@example.com",
        "full_name": who.title(),
        "roles": roles,
        "permissions": [],
    }
    return {
        "access_token": issuer.token(account_id, *map(str, roles), **claims),
        "refresh_token": f"refresh-{number}",
        "expires_in": expires_in,
        "user": user,
        "token_type": "Bearer",
    }


class Browser(httpx.AsyncClient):
    """A browser without scripts: keeps cookies, follows redirects on its own host, fills in forms."""

    async def form_key(self, path: str) -> str:
        """Open a page and give the key that its forms carry."""
        found = FORM_KEY.search((await self.get(path)).text)
        assert found, f"{path} has no form"
        return found[1]

    async def submit(self, page: str, action: str, **fields: Any) -> httpx.Response:
        """Open a page and send a form of it."""
        return await self.post(action, data={"form_key": await self.form_key(page), **fields})

    async def sign_in(self, who: str, **fields: str) -> httpx.Response:
        """Sign in."""
        return await self.submit("/sign-in", "/sign-in", email=f"{who}@example.com", password=PASSWORD, **fields)


@dataclass
class Stage:
    """Everything that a test of the console works with."""

    running: Running
    services: Services
    issuer: Issuer
    browser: Browser

    def another_browser(self, **options: Any) -> Browser:
        """Give a browser that shares nothing with the first."""
        return a_browser(self.running.port, **options)

    def let_in(self, who: str, **more: Any) -> None:
        """Let auth accept whoever signs in, as this person."""
        self.services.answers |= {ME: (200, {}), "GET /readyz": READY, "GET /healthz": READY}
        self.services.answers[LOGIN] = (200, tokens_for(self.issuer, who, **more))


def a_browser(port: int, **options: Any) -> Browser:
    """Make a browser; the cookies of the console are Secure, which httpx takes at its word: no cookie over http."""
    return Browser(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60, **options)


@asynccontextmanager
async def console(**settings: Any) -> AsyncIterator[Stage]:
    """Run a gateway in front of stand-in services; cookies are not Secure unless a test says so."""
    services, issuer = Services(), Issuer()
    options = {"cookies_secure": False, "issuer": issuer} | settings
    async with (
        raw_service(services.serve) as service,
        running_gateway(service.url, **options) as running,
        a_browser(running.port) as browser,
    ):
        yield Stage(running, services, issuer, browser)
