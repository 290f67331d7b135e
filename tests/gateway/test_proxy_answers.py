"""Answers of services: whole ones, cut ones, and ones that are no answers."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.domain.refusals import (
    UpstreamBroken,
)
from tests.gateway.asking import Client, a_request, always, asking, get, once, whole_body
from tests.gateway.raw import OK, Line
from tests.support.eventually import eventually

# --- answers that are as they should be


async def test_requests_one_after_the_other_share_a_connection() -> None:
    async with asking(always(OK)) as (upstream, service):
        for _ in range(3):
            assert await get(upstream) == (200, b"ok")
        assert len(service.lines) == 1
        assert upstream.pool.idle == 1


async def test_the_request_goes_out_as_it_was_built() -> None:
    async with asking(always(OK)) as (upstream, service):
        await get(upstream, path="/a%20b?x=%2e%2e")
        assert service.heads == [b"GET /a%20b?x=%2e%2e HTTP/1.1\r\nhost: service\r\n\r\n"]


async def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with asking(always(interim + OK)) as (upstream, service):
        answer = await upstream.ask(a_request(), Client().receive)
        assert answer.status == 200
        assert answer.headers == [(b"content-length", b"2")]
        assert await whole_body(answer) == b"ok"
        assert await get(upstream) == (200, b"ok")
        assert len(service.lines) == 1


async def test_chunks_are_joined_and_trailers_dropped() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;note=x\r\nab\r\n1\r\nc\r\n0\r\nx-user-id: 1\r\n\r\n"
    )
    async with asking(always(chunked)) as (upstream, service):
        answer = await upstream.ask(a_request(), Client().receive)
        assert await whole_body(answer) == b"abc"
        assert answer.headers == [(b"transfer-encoding", b"chunked")]
        assert await get(upstream) == (200, b"abc")
        assert len(service.lines) == 1


async def test_an_answer_in_crumbs_is_put_together() -> None:
    async def script(line: Line) -> None:
        await line.head()
        for number in range(len(OK)):
            await line.say(OK[number : number + 1])
            await asyncio.sleep(0)

    async with asking(script) as (upstream, _):
        assert await get(upstream) == (200, b"ok")


async def test_an_answer_without_length_ends_with_the_connection() -> None:
    async with asking(once(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as (upstream, _):
        assert await get(upstream) == (200, b"all of it")
        assert upstream.pool.idle == 0


async def test_a_head_request_has_no_body_whatever_length_is_announced() -> None:
    async with asking(always(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")) as (upstream, service):
        for _ in range(2):
            assert await get(upstream, "HEAD") == (200, b"")
        assert len(service.lines) == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_that_never_has_a_body_is_complete_at_once(status: str) -> None:
    async with asking(always(f"HTTP/1.1 {status}\r\netag: x\r\n\r\n".encode())) as (upstream, service):
        for _ in range(2):
            assert await get(upstream) == (int(status[:3]), b"")
        assert len(service.lines) == 1


async def test_a_connection_that_the_service_closes_is_not_used_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    async with asking(always(closing)) as (upstream, service):
        for _ in range(2):
            assert await get(upstream) == (200, b"ok")
        assert len(service.lines) == 2


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again() -> None:
    async with asking(always(OK), idle_seconds=0.05) as (upstream, service):
        await get(upstream)
        await asyncio.sleep(0.1)
        await get(upstream)
        assert len(service.lines) == 2


# --- answers that are not as they should be


@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 600 What\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 000 What\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a: one\r\n two\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a: one\nset-cookie: forged=1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a: \x01\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a: \x7f\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a : one\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nraw",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + OK,
    ],
)
async def test_an_answer_that_is_no_http_is_refused(nonsense: bytes) -> None:
    async with asking(once(nonsense)) as (upstream, service):
        with pytest.raises(UpstreamBroken):
            await get(upstream)
        assert len(service.heads) == 1, "it has answered, so it may have acted: no second try"
        assert (upstream.pool.idle, upstream.pool.in_use) == (0, 0)


@pytest.mark.parametrize("filler", [b"x-a: " + b"y" * 100 + b"\r\n", b"y" * 1_000])
async def test_a_head_without_end_is_cut_off(filler: bytes) -> None:
    sent = 0

    async def script(line: Line) -> None:
        nonlocal sent
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\nx-long: ")
        while True:
            await line.say(filler)
            sent += len(filler)
            await asyncio.sleep(0)

    async with asking(script) as (upstream, _):
        with pytest.raises(UpstreamBroken, match="too large a head"):
            await get(upstream)
    assert sent < 4_000_000


@pytest.mark.parametrize(
    "planted",
    [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 2"],
)
async def test_a_second_answer_to_one_request_reaches_nobody(planted: bytes) -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(OK + (planted if line.number == 0 else b""))
        await line.head()
        await line.say(OK)

    async with asking(script) as (upstream, service):
        assert await get(upstream) == (200, b"ok")
        assert await get(upstream) == (200, b"ok")
        assert len(service.lines) == 2


async def test_bytes_on_an_idle_connection_end_it() -> None:
    planted = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"

    async def script(line: Line) -> None:
        await line.head()
        await line.say(OK)
        if line.number == 0:
            await asyncio.sleep(0.05)
            await line.say(planted)
        await line.head()
        await line.say(OK)

    async with asking(script) as (upstream, service):
        assert await get(upstream) == (200, b"ok")
        await eventually(lambda: upstream.pool.idle == 0)
        assert await get(upstream) == (200, b"ok")
        assert len(service.lines) == 2


async def test_a_body_after_a_head_request_reaches_nobody() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 43\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nforge"
    async with asking(always(answer)) as (upstream, service):
        assert await get(upstream, "HEAD") == (200, b"")
        assert await get(upstream, "HEAD") == (200, b"")
        assert len(service.lines) == 2
