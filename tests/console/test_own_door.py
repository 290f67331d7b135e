"""The gateway called from inside: whole answers, long answers, answers that break off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.gateway.own_door import AnswerBroken, Call, OwnDoor

CALL = Call("GET", "/api/x", b"a=1", ((b"accept", b"application/json"),), "203.0.113.9", "https")


def start(status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"a", b"b")]}


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_a_call_arrives_as_a_clients_would_and_its_answer_comes_whole() -> None:
    async def door(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send(start(201))
        await send(part(b"%b %b " % (scope["raw_path"], scope["query_string"]), more=True))
        await send(
            part(message["body"] + scope["client"][0].encode() + dict(scope["headers"])[b"content-length"], more=False)
        )

    answer = await OwnDoor(door).ask(CALL, b"hello ")
    assert (answer.status, answer.headers, answer.body) == (201, {b"a": b"b"}, b"/api/x a=1 hello 203.0.113.96")


async def test_a_long_answer_comes_no_faster_than_it_is_read() -> None:
    sent = 0

    async def door(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal sent
        await send(start())
        for number in range(100):
            await send(part(b"%d," % number, more=number < 99))
            sent += 1

    async with OwnDoor(door).stream(CALL) as (answer, pieces):
        assert answer.status == 200
        await asyncio.sleep(0.05)
        assert sent <= 2, "nobody has read yet"
        assert b"".join([piece async for piece in pieces]) == b"".join(b"%d," % number for number in range(100))


async def test_whoever_stops_reading_ends_the_call() -> None:
    ended = asyncio.Event()

    async def door(_scope: Any, _receive: Any, send: Any) -> None:
        try:
            await send(start())
            while True:
                await send(part(b"x", more=True))
        finally:
            ended.set()

    async with OwnDoor(door).stream(CALL) as (_, pieces):
        await anext(pieces)
    await asyncio.wait_for(ended.wait(), 60)


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    async def door(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"half", more=True))

    async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
        return

    with pytest.raises(AnswerBroken):
        await OwnDoor(door).ask(CALL)
    async with OwnDoor(door).stream(CALL) as (_, pieces):
        with pytest.raises(AnswerBroken):
            _ = [piece async for piece in pieces]
    with pytest.raises(AnswerBroken):
        async with OwnDoor(silent).stream(CALL):
            pass


async def test_whoever_never_reads_is_taken_to_be_gone() -> None:
    ended = asyncio.Event()

    async def door(_scope: Any, _receive: Any, send: Any) -> None:
        try:
            await send(start())
            while True:
                await send(part(b"x", more=True))
        finally:
            ended.set()

    async with OwnDoor(door, unread_seconds=0.1).stream(CALL) as (_, pieces):
        await asyncio.wait_for(ended.wait(), 60)
        with pytest.raises(AnswerBroken):
            _ = [piece async for piece in pieces]
