"""How a client may send: framing with one meaning, in bounded size and time. Raw bytes in, raw bytes out."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.gateway.raw import Line, raw_service, send_raw
from tests.gateway.recording import OPEN, record
from tests.gateway.running import running_gateway
from tests.support.eventually import eventually

GET = f"GET {OPEN} HTTP/1.1\r\n".encode()
POST = f"POST {OPEN} HTTP/1.1\r\n".encode()
HOST = b"Host: hub.example\r\n"
PLANTED = b"GET /api/v1/auth/planted HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        POST + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        POST + HOST + b"Content-Length: +1\r\n\r\nx",
        POST + HOST + b"Content-Length: 1, 1\r\n\r\nx",
        POST + HOST + b"Content-Length: 1 1\r\n\r\nx",
        POST + HOST + b"Content-Length: 0x1\r\n\r\nx",
        POST + HOST + b"Content-Length: -1\r\n\r\n",
        POST + HOST + b"Content-Length : 1\r\n\r\nx",
        POST + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + PLANTED,
        POST + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + PLANTED,
        POST + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: identity\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n1 1\r\nx\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
        b"GET " + OPEN.encode() + b" HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
        GET + b"\r\n",
        GET + HOST + HOST + b"\r\n",
        GET + b"Host: a b\r\n\r\n",
        GET + b"Host: evil.example/x\r\n\r\n",
        GET + HOST + b"X-A: 1\nX-User-Id: 1\r\n\r\n",
        GET + HOST + b"X-A: 1\rX-User-Id: 1\r\n\r\n",
        GET + HOST + b"X-A: 1\r\n X-User-Id: 1\r\n\r\n",
        GET + HOST + b"X-A: \x00\r\n\r\n",
        GET + HOST + b"X A: 1\r\n\r\n",
        GET + b" Host: x\r\n\r\n",
        GET.replace(b"\r\n", b"\n") + b"Host: x\n\n",
        b"GET http://evil.example/api/v1/auth/login HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET " + OPEN.encode() + b"\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET " + OPEN.encode() + b" HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET " + OPEN.encode() + b" HTTP/1.1 x\r\n" + HOST + b"\r\n",
        b"get " + OPEN.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET " + OPEN.encode() + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_a_request_with_two_readings_is_refused_and_nothing_behind_it_is_heard(request_bytes: bytes) -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running:
        answer = await send_raw(running.port, request_bytes)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1
        problem = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert problem["code"] in {"MALFORMED_REQUEST", "HEADER_NOT_ALLOWED"}
        assert problem["request_id"]
        assert not [head for head in service.heads if b"planted" in head or b"user-id" in head.lower()]
        assert service.heads == []


async def test_pipelined_requests_are_answered_in_order() -> None:
    asked = b"".join(b"GET /ref/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5))
    async with raw_service(record) as service, running_gateway(service.url) as running:
        answer = await send_raw(running.port, asked, answers=5)
        assert answer.count(b"HTTP/1.1 200 ") == 5
        assert [answer.index(b"GET /ref/%d " % number) for number in range(5)] == sorted(
            answer.index(b"GET /ref/%d " % number) for number in range(5)
        )


async def test_a_request_behind_a_refused_body_is_not_taken_from_the_body() -> None:
    body = PLANTED.ljust(70_000, b"x")
    asked = POST + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body + GET + HOST + b"\r\n"
    async with raw_service(record) as service, running_gateway(service.url) as running:
        answer = await send_raw(running.port, asked, answers=2)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.count(b"HTTP/1.1 200 ") == 1, "the true second request"
        assert [head.split(b" ")[1] for head in service.heads] == [OPEN.encode()]


async def test_trailers_do_not_become_headers() -> None:
    asked = (
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Custom: 1\r\nAuthorization: Bearer x\r\n\r\n"
    )
    async with raw_service(record) as service, running_gateway(service.url) as running:
        assert (await send_raw(running.port, asked)).startswith(b"HTTP/1.1 200 ")
        assert b"x-custom" not in service.heads[0]
        assert b"authorization" not in service.heads[0]


async def test_a_wish_to_upgrade_is_ignored() -> None:
    asked = GET + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"
    async with raw_service(record) as service, running_gateway(service.url) as running:
        answer = await send_raw(running.port, asked)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"upgrade" not in service.heads[0]
        assert b"http2-settings" not in service.heads[0]


@pytest.mark.parametrize(
    "head",
    [
        GET + HOST + b"X-A: " + b"y" * 20_000 + b"\r\n\r\n",
        GET + HOST + b"".join(b"X-%d: y\r\n" % number for number in range(200)) + b"\r\n",
        b"GET /ref/" + b"y" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
async def test_a_huge_head_is_refused(head: bytes) -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running:
        answer = await send_raw(running.port, head)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "HEADERS_TOO_LARGE"
        assert service.heads == []


@pytest.mark.parametrize(
    "start",
    [
        GET + HOST + b"X-A: ",
        b"GET /ref/",
        b"",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: ",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;x=",
    ],
)
async def test_bytes_without_end_are_cut_off(start: bytes) -> None:
    filler = b"y" * 10_000 if start else b"\r\n" * 5_000
    sent = 0
    async with raw_service(record) as service, running_gateway(service.url) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(start)
        try:
            while not reader.at_eof() and sent < 10_000_000:
                writer.write(filler)
                sent += len(filler)
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            pass  # cut off, as it should be
        writer.close()
        assert sent < 10_000_000


async def test_a_head_that_comes_byte_by_byte_is_given_up() -> None:
    async with running_gateway(header_seconds=0.3) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        answer = asyncio.create_task(reader.read())
        head, given = GET + HOST + b"X-A: " + b"y" * 200, 0
        while given < len(head) and not answer.done():
            writer.write(head[given : given + 1])
            given += 1
            await asyncio.sleep(0.02)
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        assert given < len(head), "each byte gives it no more time"
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_connection_on_which_nothing_is_asked_is_closed(sent: bytes) -> None:
    async with running_gateway(header_seconds=0.2) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 9)
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_body_that_stalls_is_given_up() -> None:
    asked = POST + HOST + b"Content-Length: 100\r\n\r\nhalf"
    async with raw_service(record) as service, running_gateway(service.url, body_seconds=0.2) as running:
        answer = await send_raw(running.port, asked)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert service.heads == []


async def test_a_client_that_stops_reading_is_dropped() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await line.say(b"x" * 1_000_000)

    async with raw_service(script) as service, running_gateway(service.url, unread_seconds=0.3) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1)
        writer.write(GET + HOST + b"\r\n")
        pool = running.gateway.upstreams["auth"].pool
        await eventually(lambda: service.heads)
        await eventually(lambda: not pool.in_use)
        writer.close()
