"""The gateway as its own process: memory, settings, signals, and services that restart under load."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from functools import partial

import httpx
import pytest

from services.gateway.settings import GatewaySettings
from tests.gateway.process import ROOT, Process, environment, gateway_process
from tests.gateway.raw import Line, Script, raw_service
from tests.gateway.running import AWAY
from tests.support.eventually import eventually
from tests.support.processes import small_service
from tests.support.tokens import Issuer

MIB = 1_024 * 1_024
GROWTH = 20 * MIB


def a_service(issuer: Issuer) -> Script:
    """Publish the keys, send a gigabyte, take an upload of any size, or echo the path."""

    async def script(line: Line) -> None:
        while True:
            head = (await line.head()).decode().lower()
            path = head.split(" ")[1]
            if path == "/.well-known/jwks.json":
                await answer(line, json.dumps(await issuer.keys()).encode())
            elif path.startswith("/ref/gigabyte"):
                await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (1_024 * MIB))
                for _ in range(1_024):
                    await line.say(b"x" * MIB)
            elif found := re.search(r"content-length: (\d+)", head):
                left = int(found[1])
                while left:
                    left -= len(await line.reader.read(min(left, 256 * 1_024)))
                await answer(line, found[1].encode())
            else:
                await asyncio.sleep(0.002)
                await answer(line, path.encode())

    async def answer(line: Line, body: bytes) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    return script


async def test_a_gigabyte_goes_down_and_twenty_megabytes_go_up_in_flat_memory(issuer: Issuer) -> None:
    upload = "/api/Sponsorship/farmer/invitations/bulk"
    async with (
        raw_service(a_service(issuer)) as service,
        gateway_process(service.url) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60) as client,
    ):
        headers = issuer.headers(6, "Sponsor")
        await client.get("/api/Sponsorship/codes", headers=headers)
        before = running.memory
        received = 0
        async with client.stream("GET", "/ref/gigabyte") as answer:
            async for part in answer.aiter_raw():
                received += len(part)
        assert received == 1_024 * MIB
        assert running.most_memory - before < GROWTH
        answers = await asyncio.gather(
            *(client.post(upload, headers=headers, content=b"x" * (20 * MIB)) for _ in range(3))
        )
        assert [answer.text for answer in answers] == [str(20 * MIB)] * 3
        assert running.most_memory - before < GROWTH


async def test_slow_readers_do_not_make_the_gateway_hold_what_they_do_not_read(issuer: Issuer) -> None:
    async with raw_service(a_service(issuer)) as service, gateway_process(service.url) as running:
        before = running.memory
        writers = []
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1)
            writer.write(b"GET /ref/gigabyte HTTP/1.1\r\nHost: x\r\n\r\n")
            writers.append(writer)
        await asyncio.sleep(1.5)
        assert running.memory - before < GROWTH
        for writer in writers:
            writer.close()


async def knock(running: Process, outcomes: Counter[str], method: str, name: str, *, keep: bool = True) -> None:
    """Call without pause, each time for another thing, until nobody opens any more; count what came back."""
    limits = httpx.Limits(max_keepalive_connections=None if keep else 0)
    async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60, limits=limits) as client:
        for number in range(100_000):
            path = f"/ref/{name}-{number}"
            try:
                answer = await client.request(method, path)
            except httpx.ConnectError:
                return
            except httpx.TransportError as error:
                outcomes[f"lost: {error!r}"] += 1
                return
            if answer.status_code == 200:
                outcomes["right" if answer.text in {path, "0"} else "wrong"] += 1
            else:
                retry = "with" if "retry-after" in answer.headers else "without"
                outcomes[f"{answer.status_code} {retry} Retry-After"] += 1


async def answered_again(*outcomes: Counter[str]) -> None:
    """Wait until fifty more calls of each kind were answered right, by itself and without a restart."""
    goals = [(counted, counted["right"] + 50) for counted in outcomes]
    await eventually(lambda: all(counted["right"] >= goal for counted, goal in goals), within=60)


@pytest.mark.parametrize("keep", [True, False], ids=["connections that are kept", "a connection per request"])
async def test_sigterm_under_load_loses_no_request(issuer: Issuer, *, keep: bool) -> None:
    outcomes: Counter[str] = Counter()
    # Long enough for a client that a busy machine keeps waiting between opening a connection and asking.
    settings = {"GATEWAY_PUBLIC_CALLS_PER_MINUTE": "1000000", "GATEWAY_FAREWELL_SECONDS": "3"}
    async with raw_service(a_service(issuer)) as service, gateway_process(service.url, **settings) as running:
        callers = [asyncio.create_task(knock(running, outcomes, "GET", str(number), keep=keep)) for number in range(8)]
        await eventually(lambda: outcomes["right"] > 200, within=60)
        running.terminate()
        await asyncio.gather(*callers)
        await asyncio.wait_for(running.process.wait(), 60)
    assert outcomes.keys() == {"right"}


async def test_a_service_that_restarts_under_load_costs_no_reading_request_a_wrong_answer(issuer: Issuer) -> None:
    reading: Counter[str] = Counter()
    writing: Counter[str] = Counter()
    settings = {"GATEWAY_PUBLIC_CALLS_PER_MINUTE": "1000000"}
    async with raw_service(a_service(issuer)) as first, gateway_process(first.url, **settings) as running:
        callers = [asyncio.create_task(knock(running, reading, "GET", f"r{number}")) for number in range(4)]
        callers += [asyncio.create_task(knock(running, writing, "POST", f"w{number}")) for number in range(4)]
        for _ in range(3):
            await answered_again(reading, writing)
            refused = [outcomes["503 with Retry-After"] for outcomes in (reading, writing)]
            await first.stop()
            await eventually(partial(are_more, refused, reading, writing), what="calls while nobody listens")
            await first.start()
        await answered_again(reading, writing)
        running.terminate()
        await asyncio.gather(*callers)
    # "Not now" while nobody listens; "unknown" for what was cut off, a reading request only if its second try was, too.
    for outcomes in (reading, writing):
        assert outcomes.keys() <= {"right", "503 with Retry-After", "502 with Retry-After"}


def are_more(refused: list[int], *outcomes: Counter[str]) -> bool:
    return all(before < counted["503 with Retry-After"] for before, counted in zip(refused, outcomes, strict=True))


async def test_a_service_that_stops_under_load_leaves_no_writing_request_in_doubt() -> None:
    outcomes: Counter[str] = Counter()
    settings = {"GATEWAY_PUBLIC_CALLS_PER_MINUTE": "1000000"}
    async with (
        small_service(farewell_seconds=3) as (address, service),
        gateway_process(f"http://127.0.0.1:{address[1]}", **settings) as running,
    ):
        callers = [asyncio.create_task(knock(running, outcomes, "POST", str(number))) for number in range(8)]
        await eventually(lambda: outcomes["right"] > 200, within=60)
        service.terminate()
        await asyncio.wait_for(service.wait(), 60)
        await eventually(lambda: outcomes["503 with Retry-After"])
        running.terminate()
        await asyncio.gather(*callers)
    assert outcomes.keys() == {"right", "503 with Retry-After"}


def check(service_url: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.gateway", "check"],
        cwd=ROOT,
        env=environment(service_url, **settings),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_settings_can_be_checked_before_a_start() -> None:
    done = check("http://service:8000")
    assert done.returncode == 0, done.stderr
    assert re.search(r"/api/Sponsorship\s+-> http://service:8000", done.stdout)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        *(
            ({"GATEWAY_AUTH_URL": url}, "GATEWAY_AUTH_URL")
            for url in (
                "https://auth:1", "http://auth:1/path", "http://auth:1?x", "http://me@auth:1", "auth:1", "", "http://",
                "ftp://auth", "http://auth:port", "http://auth:0", "http://auth:70000", "http://[::1",
            )
        ),
        ({"GATEWAY_SIGN_INS_PER_MINUTE": "0"}, "GATEWAY_SIGN_INS_PER_MINUTE"),
        ({"GATEWAY_PORT": "many"}, "GATEWAY_PORT"),
        ({"GATEWAY_TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/99"}, "GATEWAY_TRUSTED_PROXIES.*10.0.0.0/99"),
        ({"GATEWAY_OPERATOR_NETWORKS": "localhost"}, "GATEWAY_OPERATOR_NETWORKS.*localhost"),
        *(
            ({"GATEWAY_CORS_ORIGINS": f"https://a.example, {origin}"}, "GATEWAY_CORS_ORIGINS")
            for origin in ("*", "null", "b.example", "https://b.example/", "https://B.example", "https://*.b.example")
        ),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(
    settings: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(f"http://{AWAY}", **settings).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=said):
        GatewaySettings.load()


def test_settings_that_make_sense_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {
        "GATEWAY_AUTH_URL": "http://[::1]:8000/",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8",
        "GATEWAY_CORS_ORIGINS": "https://console.example, http://localhost:5173, https://[::1]:8443",
    }
    for name, value in environment(f"http://{AWAY}", **taken).items():
        monkeypatch.setenv(name, value)
    settings = GatewaySettings.load()
    assert settings.auth_url == "http://[::1]:8000"
    assert settings.cors_origins == taken["GATEWAY_CORS_ORIGINS"]


@pytest.mark.parametrize("settings", [{"GATEWAY_AUTH_URL": "auth"}, {"GATEWAY_TRUSTED_PROXIES": "10.0.0.0/99"}])
def test_the_check_fails_with_one_clear_line(settings: dict[str, str]) -> None:
    done = check(f"http://{AWAY}", **settings)
    assert done.returncode == 1
    assert "gateway can't start" in done.stderr
    assert "Traceback" not in done.stderr
