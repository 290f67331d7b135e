"""What becomes of a client's connection: good requests beside bad ones, old versions, long silence."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.gateway.raw import OK, Line, Script, raw_service, send_raw
from tests.gateway.recording import record
from tests.gateway.running import Running, running_gateway
from tests.support.eventually import eventually

GARBAGE = b"GARBAGE\r\n\r\n"
BAD_BODY = b"POST /ref/bad HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"


def get(path: str, *, version: str = "1.1") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: x\r\n\r\n".encode()


def post(path: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok".encode()


def say_when_told(leave: asyncio.Semaphore) -> Script:
    """Answer each request in two halves; the test gives leave for each."""

    async def script(line: Line) -> None:
        while True:
            head = await line.head()
            if head.startswith(b"POST"):
                await line.reader.readexactly(2)
            await leave.acquire()
            await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")
            await leave.acquire()
            await line.say(b"half")

    return script


async def refused(running: Running) -> None:
    """Wait until bytes that are no request were read and refused."""
    await eventually(lambda: [status for route, _, status in running.door._histograms if route == "none"])


@pytest.mark.parametrize("bad", [GARBAGE, BAD_BODY, b"GET /" + b"y" * 500_000])
@pytest.mark.parametrize("when", ["together", "before the answer", "in the middle of the answer"])
async def test_a_refusal_is_never_taken_for_the_answer_to_the_good_request_before_it(bad: bytes, when: str) -> None:
    leave = asyncio.Semaphore(0)
    async with raw_service(say_when_told(leave)) as service, running_gateway(service.url) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post("/ref/good") + (bad if when == "together" else b""))
        await eventually(lambda: service.heads)
        if when == "before the answer":
            writer.write(bad)
            await refused(running)
        leave.release()
        answer = await reader.readuntil(b"half")
        if when == "in the middle of the answer":
            writer.write(bad)
            await refused(running)
        leave.release()
        answer += await asyncio.wait_for(reader.read(), 20)
        assert answer.endswith(b"halfhalf")
        assert b"HTTP/1.1 400" not in answer
        assert b"HTTP/1.1 431" not in answer
        assert len(service.heads) == 1
        writer.close()


async def test_a_client_that_sends_far_ahead_is_answered_in_order_and_let_go() -> None:
    asked = b"".join(get(f"/ref/{number}") for number in range(1_500))

    async def script(line: Line) -> None:
        while True:
            path = (await line.head()).split(b" ")[1]
            await asyncio.sleep(0.005)
            await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(path), path))

    settings = {"public_calls_per_minute": 1_000_000}
    async with raw_service(script) as service, running_gateway(service.url, **settings) as running:
        answer = await send_raw(running.port, asked, answers=1_500)  # until it is let go
        told = [int(part.partition(b"HTTP")[0]) for part in answer.split(b"\r\n\r\n/ref/")[1:]]
        assert told == list(range(len(told)))
        assert len(service.heads) < 100
        assert running.gateway.upstreams["invitations"].pool.in_use == 0


async def test_what_never_becomes_a_request_has_an_id_and_safe_headers_too() -> None:
    async with running_gateway() as running:
        answer = (await send_raw(running.port, GARBAGE)).lower()
        assert b"x-request-id: " in answer
        assert b"x-content-type-options: nosniff" in answer
        assert b"connection: close" in answer
        assert b"\r\ndate: " in answer


async def test_an_answer_to_a_client_that_is_still_sending_is_not_lost() -> None:
    async with running_gateway() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(GARBAGE + b"x" * 900_000)  # more than is read in one piece
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 400 ")
        writer.close()


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0", "x: y\r\n\r\nok"])
async def test_a_client_of_http_1_0_gets_no_chunks(framing: str) -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())

    async with raw_service(script) as service, running_gateway(service.url) as running:
        answer = await send_raw(running.port, get("/ref/x", version="1.0"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert body.strip() == b"ok"
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head


async def test_a_request_that_names_a_fragment_is_refused() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running:
        answer = await send_raw(running.port, get("/ref/x#/../y"))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert service.heads == []


async def test_a_silent_connection_is_closed_and_a_busy_one_is_not() -> None:
    settings = {"header_seconds": 1, "keep_alive_seconds": 1}
    async with raw_service(say_slowly) as service, running_gateway(service.url, **settings) as running:
        assert (await until_closed(running, b"")).startswith(b"HTTP/1.1 408 "), "the time for a head that never comes"
        began = time.monotonic()
        assert (await until_closed(running, get("/ref/x"))).endswith(b"ok")
        assert time.monotonic() - began > 2.5, "the answer takes two seconds, the silence after it one"


async def test_many_idle_connections_keep_nobody_out() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running:
        idle = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", running.port) for _ in range(500)))
        assert (await send_raw(running.port, get("/ref/x"))).startswith(b"HTTP/1.1 200 ")
        for _, writer in idle:
            writer.close()


async def say_slowly(line: Line) -> None:
    while True:
        await line.head()
        await asyncio.sleep(2)
        await line.say(OK)


async def until_closed(running: Running, asked: bytes) -> bytes:
    """Ask, and give all that came before the end; far sooner than by the gateway's own settings of half a minute."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(asked)
    received = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return received
