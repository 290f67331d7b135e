"""Bodies on their way to a service, the time that everything may take, and the breaker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.gateway.domain.breaker import Breaker
from services.gateway.domain.refusals import (
    BodyTooLarge,
    RequestTimeout,
    UpstreamAway,
    UpstreamBroken,
    UpstreamTimeout,
)
from services.gateway.proxy import Ask, ClientGone, PoolLimits, Upstream
from tests.gateway.asking import PATIENT, Client, EndlessClient, a_request, always, asking, get, let_pass, whole_body
from tests.gateway.raw import OK, Line, Script, raw_service
from tests.support.eventually import eventually

# --- time


async def test_a_service_that_does_not_answer_in_time_is_given_up() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.reader.read()

    async with asking(script) as (upstream, service):
        with pytest.raises(UpstreamTimeout):
            await upstream.ask(a_request(timeouts=replace(PATIENT, answer=0.3)), Client().receive)
        assert upstream.pool.in_use == 0
        assert len(service.lines) <= 1, "no second try"


async def stops_in_the_middle(line: Line) -> None:
    await line.head()
    await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await line.reader.read()


async def test_a_service_that_stops_in_the_middle_is_given_up() -> None:
    async with asking(stops_in_the_middle) as (upstream, _):
        answer = await upstream.ask(a_request(timeouts=replace(PATIENT, idle=0.3)), Client().receive)
        assert await answer.read() == b"half"
        with pytest.raises(UpstreamTimeout):
            await answer.read()
        answer.close()


async def test_what_has_begun_may_take_longer_than_the_beginning_and_is_given_up_then() -> None:
    async with asking(stops_in_the_middle) as (upstream, _):
        answer = await upstream.ask(a_request(timeouts=replace(PATIENT, answer=30.0)), Client().receive)
        assert await answer.read() == b"half"
        let_pass(upstream, 40)
        assert upstream.pool.in_use == 1
        let_pass(upstream, 21)
        with pytest.raises(UpstreamTimeout):
            await answer.read()
        answer.close()


def say_when_told(head: bytes, leave: asyncio.Semaphore, part: bytes) -> Script:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(head)
        while True:
            await leave.acquire()
            await line.say(part)

    return script


async def test_a_service_that_goes_on_slowly_is_not_given_up() -> None:
    leave = asyncio.Semaphore(0)
    script = say_when_told(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n", leave, b"x")
    async with asking(script) as (upstream, _):
        answer = await upstream.ask(a_request(), Client().receive)
        for _ in range(6):
            let_pass(upstream, PATIENT.idle / 2)
            leave.release()
            assert await answer.read() == b"x"
        assert await whole_body(answer) == b""


async def test_an_event_stream_may_be_silent_for_longer() -> None:
    leave = asyncio.Semaphore(0)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n: hello\n\n"
    async with asking(say_when_told(head, leave, b"data: 1\n\n")) as (upstream, _):
        answer = await upstream.ask(a_request(), Client().receive)
        assert await answer.read() == b": hello\n\n", "events are not held back"
        let_pass(upstream, PATIENT.event_stream_idle / 2)
        leave.release()
        assert await answer.read() == b"data: 1\n\n"
        let_pass(upstream, PATIENT.event_stream_idle + 1)
        with pytest.raises(UpstreamTimeout):
            await answer.read()
        answer.close()


# --- bodies


def an_upload(client: Client, **changes: Any) -> tuple[Ask, Client]:
    return a_request("POST", has_body=True, max_body=30_000_000, **changes), client


async def read_all(line: Line) -> bytes:
    """Read one request's body of any framing."""
    head = (await line.head()).lower()
    if b"content-length: " in head:
        return await line.reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    body = b""
    while size := int(await line.reader.readline(), 16):
        body += await line.reader.readexactly(size)
        await line.reader.readline()
    await line.reader.readline()
    return body


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    "parts", [[b"a"], [b"", b"a", b""], [b"a" * 40_000] * 3, [b"a" * 70_000, b"", b"b"], [b"a" * 70_000, b""]]
)
async def test_a_body_arrives_whole_in_either_framing(parts: list[bytes], *, announced: bool) -> None:
    bodies = []

    async def script(line: Line) -> None:
        while True:
            bodies.append(await read_all(line))
            await line.say(OK)

    sent = b"".join(parts)
    async with asking(script) as (upstream, service):
        for _ in range(2):
            ask, client = an_upload(Client(*parts), content_length=len(sent) if announced else None)
            await ask.gather(client.receive)
            assert await whole_body(await upstream.ask(ask, client.receive)) == b"ok"
        assert bodies == [sent, sent]
        assert len(service.lines) == 1


async def test_an_early_answer_gets_through_before_the_body_is_sent() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await line.reader.read()

    async with asking(script) as (upstream, _):
        ask, client = an_upload(EndlessClient(), content_length=25_000_000)
        await ask.gather(client.receive)
        answer = await upstream.ask(ask, client.receive)
        assert (answer.status, await whole_body(answer)) == (413, b"big")
        assert (upstream.pool.idle, upstream.pool.in_use) == (0, 0), "half a request is on that connection"


async def test_a_service_that_does_not_read_stops_the_client() -> None:
    async def script(line: Line) -> None:
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with asking(script) as (upstream, _):
        ask, client = an_upload(EndlessClient())
        ask.max_body = 1_000_000_000
        await ask.gather(client.receive)
        asked = asyncio.create_task(upstream.ask(ask, client.receive))
        await eventually(lambda: stands_still(client))
        let_pass(upstream, PATIENT.idle + 1)
        with pytest.raises(UpstreamTimeout):
            await asked
        assert client.given < 20_000_000, "what the kernel's socket buffers take, and no more"


async def stands_still(client: Client) -> bool:
    given = client.given
    await asyncio.sleep(0.2)
    return client.given == given


async def test_a_body_that_grows_too_large_on_the_way_is_refused_and_never_ends_well() -> None:
    seen = []

    async def script(line: Line) -> None:
        await line.head()
        seen.append(await line.reader.read())

    async with raw_service(script) as service:
        upstream = Upstream("service", service.url, PoolLimits(), Breaker())
        ask, client = an_upload(EndlessClient())
        ask.max_body = 300_000
        await ask.gather(client.receive)
        with pytest.raises(BodyTooLarge):
            await upstream.ask(ask, client.receive)
        assert not upstream.breaker.is_open


async def test_a_small_body_that_is_too_large_is_refused_before_the_service_is_asked() -> None:
    ask = a_request("POST", has_body=True, max_body=10)
    with pytest.raises(BodyTooLarge):
        await ask.gather(Client(b"123456", b"123456").receive)


async def test_a_body_that_stalls_holds_no_connection() -> None:
    ask = a_request("POST", has_body=True, body_seconds=0.1)
    with pytest.raises(RequestTimeout):
        await ask.gather(Client(b"x", more=True).receive)


async def test_an_upload_that_stalls_is_given_up() -> None:
    arrived = asyncio.Event()

    async def script(line: Line) -> None:
        await line.head()
        await line.reader.readuntil(b"y")
        arrived.set()
        await line.reader.read()

    async with asking(script) as (upstream, _):
        ask, client = an_upload(Client(b"x" * 70_000, b"y", more=True))
        await ask.gather(client.receive)
        asked = asyncio.create_task(upstream.ask(ask, client.receive))
        await arrived.wait()
        let_pass(upstream, PATIENT.idle + 1)
        with pytest.raises(RequestTimeout):
            await asked
        assert upstream.pool.in_use == 0


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_frees_the_connection() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.reader.read()

    async with asking(script) as (upstream, _):
        client = Client(b"x" * 70_000, more=True)
        ask = a_request("POST", has_body=True, max_body=100_000)
        await ask.gather(client.receive)
        task = asyncio.create_task(upstream.ask(ask, client.receive))
        await asyncio.sleep(0.05)
        client.gone.set()
        with pytest.raises(ClientGone):
            await task
        assert upstream.pool.in_use == 0


async def test_a_writing_request_without_body_says_so() -> None:
    async with asking(always(OK)) as (upstream, service):
        await get(upstream, "POST")
        assert service.heads[0].endswith(b"content-length: 0\r\n\r\n")


# --- the breaker


async def test_a_service_that_keeps_failing_is_left_alone_and_found_again() -> None:
    well = False

    async def script(line: Line) -> None:
        await line.head()
        if well:
            await line.say(OK)

    async with raw_service(script) as service:
        upstream = Upstream("service", service.url, PoolLimits(), Breaker(threshold=3, first_seconds=60.0))
        for _ in range(3):
            with pytest.raises(UpstreamBroken):
                await get(upstream, "POST")
        with pytest.raises(UpstreamAway) as refusal:
            await get(upstream, "POST")
        assert refusal.value.retry_after == 60
        assert len(service.heads) == 3
        well = True
        upstream.breaker._open_until -= 60
        assert await get(upstream, "POST") == (200, b"ok")
        assert not upstream.breaker.is_open


async def test_a_service_that_answers_errors_is_alive() -> None:
    async with raw_service(always(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")) as service:
        upstream = Upstream("service", service.url, PoolLimits(), Breaker(threshold=1))
        for _ in range(5):
            assert (await get(upstream))[0] == 503
