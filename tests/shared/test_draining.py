"""A service that stops under a busy gateway loses no request: neither the one at hand nor the next on its line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from shared.draining import DrainingServer, Farewell, _let_nobody_in
from tests.support.eventually import eventually
from tests.support.processes import small_service

ASK = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


class Application:
    """Answers as soon as it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.asked += 1
        await receive()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def application() -> Application:
    return Application()


@pytest.fixture
def farewell(application: Application) -> Farewell:
    return Farewell(application)


@pytest.fixture
async def server(farewell: Farewell) -> AsyncIterator[DrainingServer]:
    config = uvicorn.Config(farewell, log_config=None, lifespan="off", http="httptools", timeout_graceful_shutdown=30)
    # As long as a slow machine may need: it is over when the last connection is closed.
    made = DrainingServer(config, 30.0, on_farewell=farewell.say)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(made.serve(sockets=[listener]))
        await eventually(lambda: made.started)
        yield made
        made.should_exit = True
        await task


async def connect(server: DrainingServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(2)


async def test_the_request_at_hand_and_the_next_on_its_connection_are_answered(
    server: DrainingServer, farewell: Farewell, application: Application
) -> None:
    busy, idle = await connect(server), await connect(server)
    assert b"connection: close" not in await ask(*idle)
    application.may_answer.clear()
    at_hand = asyncio.create_task(ask(*busy))
    await eventually(lambda: application.asked == 2)
    server.should_exit = True
    await eventually(lambda: farewell._said)
    application.may_answer.set()
    assert b"connection: close" in await at_hand
    last = await ask(*idle)
    assert last.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in last
    for reader, writer in (busy, idle):
        assert await reader.read() == b""
        writer.close()


async def test_newcomers_are_served_and_sent_elsewhere_until_the_door_closes(server: DrainingServer) -> None:
    address = server.servers[0].sockets[0].getsockname()
    _, kept = await connect(server)
    server.should_exit = True
    answered = 0

    async def is_refused() -> bool:
        nonlocal answered
        try:
            reader, writer = await asyncio.open_connection(*address)
        except ConnectionRefusedError:
            return True
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):  # it came in the very last moment
            answered += b"connection: close" in await ask(reader, writer)
        writer.close()
        if answered:
            kept.close()
        return False

    await eventually(is_refused)
    assert answered


async def test_who_waits_at_the_door_when_it_closes_is_still_let_in(server: DrainingServer) -> None:
    listening = server.servers[0].sockets[0].getsockname()
    with socket.create_connection(listening) as waiting:
        await server._stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*listening)
        waiting.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(waiting, ASK)
        assert (await loop.sock_recv(waiting, 1_000)).startswith(b"HTTP/1.1 200")


async def test_who_comes_while_the_door_closes_is_left_waiting_and_not_reset(server: DrainingServer) -> None:
    own = server.servers[0].sockets[0]
    with socket.create_connection(own.getsockname()) as waiting:
        with socket.socket(fileno=os.dup(own.fileno())) as listening:
            if not _let_nobody_in(listening):
                pytest.skip("this kernel filters nothing at a socket")
            with pytest.raises(TimeoutError):
                socket.create_connection(own.getsockname(), timeout=0.3)
        waiting.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(waiting, ASK)
        assert (await loop.sock_recv(waiting, 1_000)).startswith(b"HTTP/1.1 200")


async def test_every_service_serves_like_that() -> None:
    async with small_service(farewell_seconds=60) as (address, process):
        reader, writer = await asyncio.open_connection(*address)
        assert b"connection: close" not in await ask_small(reader, writer)
        process.terminate()
        await asyncio.sleep(0.4)  # by then uvicorn alone has closed the connection
        assert b"connection: close" in await ask_small(reader, writer)
        writer.close()


async def ask_small(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(1) == b"/"
    return head
