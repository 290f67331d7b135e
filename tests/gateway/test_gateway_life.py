"""The whole gateway over real sockets: its own pages, and how it leaves."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from tests.gateway.raw import OK, Line, Script, raw_service
from tests.gateway.recording import OPEN, assert_problem, record
from tests.gateway.running import Running, running_gateway
from tests.support.eventually import eventually

# --- its own pages


def a_service(documents: dict[str, tuple[int, Any]]) -> Script:
    async def script(line: Line) -> None:
        while True:
            path = (await line.head()).split(b" ")[1].decode()
            status, document = documents.get(path, (404, {}))
            body = json.dumps(document).encode()
            await line.say(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))

    return script


async def test_readiness_shows_each_service() -> None:
    ready = {"status": "ready", "parts": {"database": "ok"}}
    alive = {"status": "ok", "service": "referrals", "partner_center_enabled": True}
    well = a_service({"/readyz": (200, ready), "/healthz": (200, alive)})
    async with raw_service(well) as service, running_gateway(service.url) as running, running.client() as client:
        answer = await client.get("/readyz")
        state = answer.json()
        assert answer.status_code == 200
        assert state["upstreams"]["auth"]["status"] == "ready"
        assert state["partner_center_enabled"] is True
        assert state["status"] == "degraded", "the broker of this test is away"
        assert "not following" in state["parts"]["stream gateway.revocations"]
    async with running_gateway() as running, running.client() as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert {state["status"] for state in answer.json()["upstreams"].values()} == {"away"}
        assert (await client.get("/healthz")).json() == {"status": "ok", "service": "gateway"}


async def test_asking_often_how_the_services_are_or_what_they_offer_costs_them_little() -> None:
    ready = {"status": "ready", "parts": {}}
    well = a_service({"/readyz": (200, ready), "/healthz": (200, {}), "/openapi.json": (200, {"paths": {}})})
    async with raw_service(well) as service, running_gateway(service.url) as running, running.client() as client:
        for path, questions in (("/readyz", 8), ("/openapi.json", 4)):
            before, began = len(service.heads), time.monotonic()
            answers = await asyncio.gather(*(client.get(path) for _ in range(50)))
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.content for answer in answers}) == 1
            assert len(service.heads) - before <= questions * (2 + time.monotonic() - began), "once a second"


async def test_figures_are_for_operators() -> None:
    async with running_gateway() as running, running.client() as client:
        await client.get("/nothing")
        figures = await client.get("/metrics")
        assert 'gateway_request_seconds_count{method="GET",route="none",status="404"}' in figures.text
        assert 'gateway_service_circuit_open{service="auth"} 0.0' in figures.text
        behind = {"x-forwarded-for": "127.0.0.1"}
        assert_problem(await client.get("/metrics", headers=behind), 403, "ONLY_FROM_INSIDE")
    async with running_gateway(trusted_proxies="127.0.0.1") as running, running.client() as client:
        assert (await client.get("/metrics", headers=behind)).status_code == 200
        outside = {"x-forwarded-for": "203.0.113.9"}
        assert_problem(await client.get("/metrics", headers=outside), 403, "ONLY_FROM_INSIDE")
    async with running_gateway(operator_networks="203.0.113.0/24") as running, running.client() as client:
        assert_problem(await client.get("/metrics"), 403, "ONLY_FROM_INSIDE")


async def test_pages_need_nothing_from_elsewhere() -> None:
    async with running_gateway() as running, running.client() as client:
        for path in ("/sign-in", "/docs"):
            page = await client.get(path)
            assert page.headers["content-type"].startswith("text/html")
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert "http://" not in page.text
            assert "https://" not in page.text
        assert (await client.get("/static/docs.js")).headers["content-type"].startswith("text/javascript")


async def test_a_page_tells_its_length_and_nothing_else_to_who_asks_for_its_head() -> None:
    async with running_gateway() as running, running.client() as client:
        for path in ("/healthz", "/sign-in", "/docs", "/static/console.css"):
            head, page = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == page.headers["content-length"] == str(len(page.content))


# --- leaving


async def test_stopping_serves_newcomers_for_a_moment_and_finishes_what_has_begun() -> None:
    may_answer = asyncio.Event()

    async def script(line: Line) -> None:
        if b"/slow" in await line.head():
            await may_answer.wait()
        await line.say(OK)

    async with (
        raw_service(script) as service,
        running_gateway(service.url, drain_seconds=60) as running,
        running.client() as client,
    ):
        moment_is_over = asyncio.Event()
        running.server._say_farewell = moment_is_over.wait  # type: ignore[method-assign, assignment]
        request = asyncio.create_task(client.get("/ref/slow"))
        await eventually(lambda: service.heads)
        stopping = asyncio.create_task(running.stop())
        await eventually(lambda: "draining" in running.gateway.health.report())
        async with running.client() as newcomer:
            ready = await newcomer.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "not ready"), "the balancer is told"
            answer = await newcomer.get("/ref/x")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        moment_is_over.set()
        await eventually(lambda: _is_refused(running))
        assert not request.done()
        may_answer.set()
        answer = await request
        assert (answer.status_code, answer.text) == (200, "ok")
        await stopping


async def _is_refused(running: Running) -> bool:
    async with running.client() as newcomer:
        try:
            await newcomer.get("/healthz")
        except httpx.TransportError:
            return True
    return False


async def test_stopping_tells_busy_clients_to_go_elsewhere() -> None:
    async with raw_service(record) as service, running_gateway(service.url, farewell_seconds=60.0) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        ask = f"GET {OPEN} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        writer.write(ask)
        first = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: close" not in first
        await reader.read(65_536)
        stopping = asyncio.create_task(running.stop())
        await eventually(lambda: "draining" in running.gateway.health.report())
        writer.write(ask)
        assert b"connection: close" in (await reader.read()).lower()
        await asyncio.wait_for(stopping, 30)
        writer.close()


async def test_an_answer_that_was_asked_for_before_the_stop_says_farewell_too() -> None:
    may_answer = asyncio.Event()

    async def script(line: Line) -> None:
        await line.head()
        await may_answer.wait()
        await line.say(OK)

    async with raw_service(script) as service, running_gateway(service.url, farewell_seconds=60.0) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"GET {OPEN} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await eventually(lambda: service.heads)
        stopping = asyncio.create_task(running.stop())
        await eventually(lambda: "draining" in running.gateway.health.report())
        may_answer.set()
        assert b"connection: close" in await asyncio.wait_for(reader.read(), 30)
        await asyncio.wait_for(stopping, 30)
        writer.close()


async def test_who_was_answered_just_now_may_ask_once_more_and_who_is_silent_is_not_waited_for() -> None:
    ask = f"GET {OPEN} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    async with raw_service(record) as service, running_gateway(service.url, drain_seconds=120) as running:
        running.limits.newcomer_seconds = 40.0  # as long as a slow machine may need
        silent, silent_writer = await asyncio.open_connection("127.0.0.1", running.port)
        silent_writer.write(ask)
        await silent.readuntil(b"\r\n\r\n")
        await silent.read(65_536)
        (connection,) = running.server.server_state.connections
        connection._idle_since -= 60  # type: ignore[union-attr]  # as if it had been silent since then
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(ask)
        assert b"connection: close" not in await reader.readuntil(b"\r\n\r\n")
        await reader.read(65_536)
        stopping = asyncio.create_task(running.stop())
        await asyncio.wait_for(silent.read(), 20)
        writer.write(ask)
        assert b"connection: close" in await reader.read()
        await asyncio.wait_for(stopping, 20)
        writer.close()
        silent_writer.close()


@pytest.mark.parametrize(
    "start", ["GARBAGE\r\n\r\n", f"POST {OPEN} HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n"]
)
async def test_stopping_takes_no_refusal_from_a_client_that_is_still_sending(start: str) -> None:
    async with running_gateway(drain_seconds=120) as running:
        running.limits.newcomer_seconds = running.limits.linger_seconds = 60.0  # as long as a slow machine may need
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(start.encode())
        await eventually(lambda: running.door._histograms)  # it is refused by now
        stopping = asyncio.create_task(running.stop())
        await asyncio.sleep(0.3)
        writer.write(b"x" * 900_000)
        await writer.drain()
        await asyncio.sleep(0.3)
        assert (await reader.readuntil(b"}")).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
        writer.close()
        await asyncio.wait_for(stopping, 30)


async def test_stopping_ends_event_streams() -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        await line.reader.read()

    async def stop_soon(running: Running) -> None:
        await eventually(lambda: running.door._streams)
        await running.stop()

    async with raw_service(script) as service, running_gateway(service.url, drain_seconds=30) as running:
        stopping = asyncio.create_task(stop_soon(running))
        async with running.client() as client:
            assert (await client.get(OPEN)).text == "data: 1\n\n", "a proper end, not a cut"
        await asyncio.wait_for(stopping, 20)
