"""The whole gateway over real sockets: what is answered when something is too much or fails."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.gateway.raw import Line, raw_service, send_raw
from tests.gateway.recording import CLOSED, OPEN, assert_problem, record
from tests.gateway.running import running_gateway
from tests.support.eventually import eventually
from tests.support.tokens import Issuer

# --- limits


async def test_sign_ins_are_limited_by_address() -> None:
    async with (
        raw_service(record) as service,
        running_gateway(service.url, sign_ins_per_minute=3) as running,
        running.client() as client,
    ):
        answers = [await client.post(OPEN, json={"email": f"a{number}@example.com"}) for number in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
        assert {answer.headers["ratelimit-limit"] for answer in answers} == {"3"}
        assert_problem(answers[-1], 429, "RATE_LIMITED")
        assert int(answers[-1].headers["retry-after"]) in range(1, 21)
        assert len(service.heads) == 3
        again = await client.post("/api/AUTH/login")
        assert again.status_code == 429, "another spelling is the same route"
        assert (await client.post("/api/v1/auth/refresh")).status_code == 200, "other routes have limits of their own"


async def test_calls_are_limited_by_account(issuer: Issuer) -> None:
    async with (
        raw_service(record) as service,
        running_gateway(service.url, issuer=issuer, account_calls_per_minute=2) as running,
        running.client() as client,
    ):
        one, other = issuer.headers(1), issuer.headers(2)
        assert [(await client.get(CLOSED, headers=one)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await client.get(CLOSED, headers=issuer.headers(1))).status_code == 429, "a new token is no new account"
        assert (await client.get(CLOSED, headers=other)).status_code == 200


async def test_whoever_searches_for_addresses_or_asks_for_leave_is_limited_too() -> None:
    asks = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    async with running_gateway(address_calls_per_minute=4) as running, running.client() as client:
        found = [(await client.get(f"/api/v1/nothing/{number}")).status_code for number in range(3)]
        found += [(await client.options(CLOSED, headers=asks)).status_code for _ in range(2)]
        assert found == [404, 404, 404, 204, 429]


# --- bodies


async def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running:
        head = f"POST {OPEN} HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\nexpect: 100-continue\r\n\r\n".encode()
        answer = await send_raw(running.port, head)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"100 Continue" not in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "BODY_TOO_LARGE"
        assert service.heads == []


async def test_a_client_that_sends_its_large_body_all_the_same_still_gets_the_answer() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        for _ in range(3):
            assert_problem(await client.post(OPEN, content=b"x" * 3_000_000), 413, "BODY_TOO_LARGE")
        assert service.heads == []


async def test_a_body_that_turns_out_too_large_is_refused() -> None:
    async def parts() -> Any:
        for _ in range(20):
            yield b"x" * 10_000

    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        assert_problem(await client.post(OPEN, content=parts()), 413, "BODY_TOO_LARGE")
        assert service.heads == []


async def test_a_client_that_waits_for_leave_gets_it_and_the_body_goes_through() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"POST {OPEN} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert b"expect" not in service.heads[0]
        writer.close()


# --- services that fail


async def test_a_service_that_is_away_is_a_503_with_retry_after() -> None:
    async with running_gateway() as running, running.client() as client:
        answer = await client.post(OPEN)
        assert_problem(answer, 503, "UPSTREAM_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_service_that_breaks_off_is_a_502() -> None:
    async def script(line: Line) -> None:
        await line.head()

    async with raw_service(script) as service, running_gateway(service.url) as running, running.client() as client:
        assert_problem(await client.post(OPEN), 502, "UPSTREAM_SILENT")
        assert len(service.heads) == 1


@pytest.mark.parametrize(
    "framing", [b"content-length: 10\r\n\r\nhalf", b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
async def test_a_cut_answer_reaches_the_client_as_cut(framing: bytes) -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\n" + framing)
        await asyncio.sleep(0.05)

    async with raw_service(script) as service, running_gateway(service.url) as running, running.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(OPEN)


async def test_server_sent_events_arrive_one_by_one() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            await line.say(b"9\r\ndata: %d\n\n\r\n" % number)
            await line.reader.readexactly(1)

    async with raw_service(script) as service, running_gateway(service.url) as running, running.client() as client:
        events = []
        async with client.stream("GET", OPEN) as answer:
            async for event in answer.aiter_raw():
                events.append(event)
                if len(events) == 3:
                    break
                service.lines[0].reader.feed_data(b"!")  # only now may the service go on
        assert events == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


async def test_the_head_of_an_answer_does_not_wait_for_its_body() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        await line.reader.readexactly(1)
        await line.say(b"data: 1\n\n")

    async with (
        raw_service(script) as service,
        running_gateway(service.url) as running,
        running.client() as client,
        asyncio.timeout(10),
        client.stream("GET", OPEN) as answer,
    ):
        assert answer.status_code == 200
        service.lines[0].reader.feed_data(b"!")  # only now may the service go on
        assert await answer.aread() == b"data: 1\n\n"


async def test_a_client_that_hangs_up_ends_the_request_at_the_service() -> None:
    ended = asyncio.Event()

    async def script(line: Line) -> None:
        await line.head()
        await line.reader.read()
        ended.set()

    async with raw_service(script) as service, running_gateway(service.url) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"GET {OPEN} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await eventually(lambda: service.heads)
        writer.close()
        await asyncio.wait_for(ended.wait(), 20)
        await eventually(lambda: running.gateway.upstreams["auth"].pool.in_use == 0)


# --- browsers


async def test_pages_of_other_origins_are_kept_out_unless_listed() -> None:
    listed = "https://console.example"
    async with (
        raw_service(record) as service,
        running_gateway(service.url, cors_origins=listed) as running,
        running.client() as client,
    ):
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        leave = await client.options(CLOSED, headers={"origin": listed, **asks})
        assert leave.status_code == 204
        assert leave.headers["access-control-allow-origin"] == listed
        assert "authorization" in leave.headers["access-control-allow-headers"]
        other = await client.options(CLOSED, headers={"origin": "https://evil.example", **asks})
        assert not [name for name in other.headers if name.startswith("access-control-")]
        assert other.headers["vary"] == "origin"
        answer = await client.get(OPEN, headers={"origin": listed})
        assert answer.headers["access-control-allow-origin"] == listed
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        answer = await client.get(OPEN, headers={"origin": listed})
        assert not [name for name in answer.headers if name.startswith("access-control-")]
