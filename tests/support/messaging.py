"""The messaging provider of the sandbox as a real server in the test's own process, and raw servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from local.processes import free_port
from sandbox.messaging_provider import KEEP_ALIVE_SECONDS, Connection, MessagingProvider
from tests.support.eventually import eventually


class RunningProvider:
    """A running stand-in: where it is, what it took, and its knobs."""

    def __init__(self, url: str, application: MessagingProvider) -> None:
        self.url = url
        self.application = application
        self._client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=60, verify=False)  # noqa: S501 - plain HTTP

    async def turn(self, **knobs: Any) -> None:
        """Set knobs."""
        (await self._ask("POST", "knobs", json=knobs)).raise_for_status()

    async def count(self) -> dict[str, Any]:
        """Count what was sent."""
        counted: dict[str, Any] = (await self._ask("GET", "count")).json()
        return counted

    async def messages(self, **query: str) -> list[dict[str, Any]]:
        """List what was sent."""
        listed: list[dict[str, Any]] = (await self._ask("GET", "messages", params=query)).json()["messages"]
        return listed

    async def _ask(self, method: str, name: str, **options: Any) -> httpx.Response:
        return await self._client.request(method, f"/_sandbox/{name}", **options)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()


@asynccontextmanager
async def running_provider() -> AsyncIterator[RunningProvider]:
    """Start the stand-in on a free port until the block ends."""
    application = MessagingProvider()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            application,
            http=Connection,
            log_config=None,  # uvicorn's own would change the loggers of this process for all later tests
            access_log=False,
            lifespan="on",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started or task.done(), what="the stand-in")
        running = RunningProvider(f"http://127.0.0.1:{listener.getsockname()[1]}", application)
        try:
            yield running
        finally:
            await running.close()
            server.should_exit = True
            await task


@asynccontextmanager
async def raw_server(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Listen on a free port and let `answer` do as it likes with each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Take requests and answer none; gives the address and the requests."""
    requests: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        await reader.read()  # until the client has had enough

    async with raw_server(listen) as url:
        yield url, requests


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Read one whole request with a body of known length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


def unused_url() -> str:
    """Give an address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"
