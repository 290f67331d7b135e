"""Connections to services: when they die, how many there are, and what becomes of them when somebody leaves."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import replace

import pytest

from services.gateway.domain.breaker import Breaker
from services.gateway.domain.refusals import (
    UpstreamAway,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamSilent,
    UpstreamTimeout,
)
from services.gateway.proxy import ClientGone, PoolLimits, Upstream
from tests.gateway.asking import PATIENT, Client, a_request, always, asking, get, once, whole_body
from tests.gateway.raw import OK, Line
from tests.support.eventually import eventually

# --- connections that die


async def test_a_half_closed_connection_is_noticed_before_it_is_used() -> None:
    async with asking(once(OK)) as (upstream, service):
        for method in ("GET", "POST"):
            assert await get(upstream, method) == (200, b"ok")
            await eventually(lambda: upstream.pool.idle == 0)
        assert [line.requests[0][:4] for line in service.lines] == [b"GET ", b"POST"]


async def second_request_is_dropped(line: Line) -> None:
    """Answer one request per connection and hang up on the second, having read it."""
    await line.head()
    await line.say(OK)
    await line.head()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_reading_request_is_tried_once_more_on_another_connection(method: str) -> None:
    async with asking(second_request_is_dropped) as (upstream, service):
        await get(upstream)
        assert (await get(upstream, method))[0] == 200
        assert [len(line.requests) for line in service.lines] == [2, 1]


async def test_a_writing_request_is_never_sent_twice() -> None:
    async with asking(second_request_is_dropped) as (upstream, service):
        await get(upstream)
        with pytest.raises(UpstreamSilent):
            await get(upstream, "POST")
        assert [head[:4] for head in service.heads] == [b"GET ", b"POST"]


async def test_a_reading_request_is_not_tried_a_third_time() -> None:
    async def script(line: Line) -> None:
        await line.head()

    async with asking(script) as (upstream, service):
        with pytest.raises(UpstreamBroken):
            await get(upstream)
        assert len(service.heads) == 2
        assert upstream.pool.in_use == 0


async def test_a_reading_request_is_not_repeated_once_the_answer_has_begun() -> None:
    async with asking(once(b"HTTP/1.1 200 OK\r\ncontent-le")) as (upstream, service):
        with pytest.raises(UpstreamBroken):
            await get(upstream)
        assert len(service.heads) == 1


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ],
)
async def test_an_answer_that_is_cut_short_is_never_taken_for_whole(cut: bytes) -> None:
    async with asking(once(cut)) as (upstream, _):
        answer = await upstream.ask(a_request(), Client().receive)
        assert await answer.read() == b"half"
        with pytest.raises(UpstreamBroken):
            await answer.read()
        answer.close()
        assert (upstream.pool.idle, upstream.pool.in_use) == (0, 0)


async def test_an_answer_without_length_that_ends_in_a_reset_is_not_whole() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.sleep(0.1)
        line.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with asking(script) as (upstream, _):
        answer = await upstream.ask(a_request(), Client().receive)
        assert await answer.read() == b"half"
        with pytest.raises(UpstreamBroken):
            await answer.read()
        answer.close()


async def test_a_service_that_is_away_is_said_to_be_away() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        upstream = Upstream("service", f"http://127.0.0.1:{held.getsockname()[1]}", PoolLimits(), Breaker())
        with pytest.raises(UpstreamAway) as refusal:
            await get(upstream)
        assert refusal.value.retry_after
        assert upstream.pool.in_use == 0


# --- bounds


async def slow(line: Line) -> None:
    while True:
        await line.head()
        await asyncio.sleep(0.2)
        await line.say(OK)


async def test_connections_and_the_queue_for_them_are_bounded() -> None:
    async with asking(slow, connections=2, waiting=2) as (upstream, service):
        results = await asyncio.gather(*(get(upstream) for _ in range(5)), return_exceptions=True)
        assert [isinstance(result, UpstreamBusy) for result in results] == [False] * 4 + [True]
        assert len(service.lines) == 2
        assert (upstream.pool.in_use, upstream.pool.waiting) == (0, 0)


async def test_nobody_waits_for_a_connection_for_ever() -> None:
    may_answer = asyncio.Event()

    async def script(line: Line) -> None:
        await line.head()
        await may_answer.wait()
        await line.say(OK)

    async with asking(script, connections=1, wait_seconds=0.05) as (upstream, service):
        first = asyncio.create_task(get(upstream))
        await eventually(lambda: service.heads)
        with pytest.raises(UpstreamBusy):
            await get(upstream)
        may_answer.set()
        assert await first == (200, b"ok")
        assert (upstream.pool.in_use, upstream.pool.waiting) == (0, 0)


async def test_a_place_goes_on_when_a_connection_dies() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await asyncio.sleep(0.05)
        if line.number > 0:
            await line.say(OK)
            await always(OK)(line)

    async with asking(script, connections=1) as (upstream, _):
        results = await asyncio.gather(*(get(upstream, "POST") for _ in range(4)), return_exceptions=True)
        assert isinstance(results[0], UpstreamSilent)
        assert results[1:] == [(200, b"ok")] * 3
        assert (upstream.pool.in_use, upstream.pool.waiting) == (0, 0)


async def test_waiting_requests_that_are_cancelled_leave_no_place_taken() -> None:
    async with asking(slow, connections=1) as (upstream, _):
        tasks = [asyncio.create_task(get(upstream)) for _ in range(10)]
        await asyncio.sleep(0.25)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (upstream.pool.in_use, upstream.pool.waiting) == (0, 0)
        assert await get(upstream) == (200, b"ok")


async def test_an_answer_that_nobody_reads_stops_the_service() -> None:
    sent = 0

    async def script(line: Line) -> None:
        nonlocal sent
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        for _ in range(100):
            await line.say(b"x" * 1_000_000)
            sent += 1_000_000

    async with asking(script) as (upstream, _):
        answer = await upstream.ask(a_request(), Client().receive)
        await asyncio.sleep(0.5)
        assert sent < 20_000_000, "what the kernel's socket buffers take, and no more"
        assert len(await whole_body(answer)) == 100_000_000


async def test_an_answer_that_nobody_reads_at_all_is_given_up() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        await line.say(b"x" * 100_000_000)

    async with asking(script) as (upstream, _):
        answer = await upstream.ask(a_request(timeouts=replace(PATIENT, idle=0.3)), Client().receive)
        await eventually(lambda: upstream.pool.in_use == 0)
        with pytest.raises(UpstreamTimeout):
            await whole_body(answer)


# --- clients that go away


async def test_a_client_that_hangs_up_cancels_the_request_and_frees_the_connection() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.reader.read()

    async with asking(script) as (upstream, service):
        client = Client()
        task = asyncio.create_task(upstream.ask(a_request(), client.receive))
        await eventually(lambda: service.heads)
        client.gone.set()
        with pytest.raises(ClientGone):
            await task
        assert upstream.pool.in_use == 0
        await eventually(service.lines[0].reader.at_eof)


async def test_a_client_that_hangs_up_in_the_middle_of_the_answer_frees_the_connection() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nsome")
        await line.reader.read()

    async with asking(script) as (upstream, service):
        client = Client()
        answer = await upstream.ask(a_request(), client.receive)
        assert await answer.read() == b"some"
        client.gone.set()
        with pytest.raises(ClientGone):
            await answer.read()
        answer.close()
        assert (upstream.pool.idle, upstream.pool.in_use) == (0, 0)
        await eventually(service.lines[0].reader.at_eof)


async def test_a_cancelled_request_frees_the_connection() -> None:
    async with asking(slow) as (upstream, _):
        task = asyncio.create_task(get(upstream))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (upstream.pool.idle, upstream.pool.in_use) == (0, 0)


async def test_closing_an_answer_again_does_not_disturb_whoever_has_the_connection_now() -> None:
    async with asking(slow) as (upstream, service):
        first = await upstream.ask(a_request(), Client().receive)
        assert await whole_body(first) == b"ok"
        second = asyncio.create_task(get(upstream))
        await eventually(lambda: len(service.heads) == 2)
        first.close()
        assert await second == (200, b"ok")
        assert len(service.lines) == 1
