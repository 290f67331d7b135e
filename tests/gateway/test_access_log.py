"""The access log: one line per request, of what matters to operators and of nothing secret."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest

from services.gateway.app.access_log import AccessLog
from tests.gateway.raw import raw_service, send_raw
from tests.gateway.recording import CLOSED, OPEN, record
from tests.gateway.running import Running, running_gateway
from tests.support.tokens import Issuer


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    stream = io.BytesIO()
    plain = AccessLog.__init__

    def init(self: AccessLog, service: str) -> None:
        plain(self, service, stream)

    monkeypatch.setattr(AccessLog, "__init__", init)
    return stream


def lines_of(running: Running, written: io.BytesIO) -> list[dict[str, Any]]:
    running.door._access.flush()
    return [json.loads(line) for line in written.getvalue().splitlines()]


async def test_a_line_tells_of_a_request(written: io.BytesIO, issuer: Issuer) -> None:
    async with (
        raw_service(record) as service,
        running_gateway(service.url, issuer=issuer) as running,
        running.client() as client,
    ):
        headers = issuer.headers(7, "Admin") | {"x-request-id": "my-id"}
        began = time.perf_counter()
        await client.get(f"{CLOSED}/x?password=secret", headers=headers)
        took = time.perf_counter() - began
        await client.get(CLOSED)
        one, other = lines_of(running, written)
    assert one["message"] == f"GET {CLOSED}/x 200"
    told = {name: one[name] for name in ("level", "service", "role", "request_id", "route", "status", "upstream")}
    assert told == {
        "level": "info",
        "service": "gateway",
        "role": "api",
        "request_id": "my-id",
        "route": "referrals",
        "status": 200,
        "upstream": "referrals",
    }
    assert (one["account"], one["address"]) == (7, "127.0.0.1")
    assert 0 < one["upstream_seconds"] <= one["seconds"] <= took
    assert one["sent_bytes"] > 0
    assert one["time"].endswith("+00:00")
    assert (other["status"], other["problem"]) == (401, "TOKEN_MISSING")
    assert "upstream" not in other
    assert b"secret" not in written.getvalue()
    assert headers["authorization"].split()[1].encode() not in written.getvalue()


async def test_what_never_became_a_request_has_a_line_and_a_place_in_the_figures(written: io.BytesIO) -> None:
    async with running_gateway() as running, running.client() as client:
        answer = await send_raw(running.port, b"GARBAGE\r\n\r\n")
        (line,) = lines_of(running, written)
        figures = (await client.get("/metrics")).text
    assert (line["message"], line["status"], line["problem"]) == ("no request 400", 400, "MALFORMED_REQUEST")
    assert line["address"] == "127.0.0.1"
    assert f"x-request-id: {line['request_id']}".encode() in answer
    assert 'gateway_request_seconds_count{method="other",route="none",status="400"}' in figures


async def test_the_path_of_an_invitation_is_no_secret_for_the_log(written: io.BytesIO) -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        await client.get("/ref/0123456789abcdef")
        (line,) = lines_of(running, written)
    assert (line["path"], line["route"]) == ("ref", "ref")
    assert b"0123456789abcdef" not in written.getvalue()


@pytest.mark.parametrize(
    ("path", "header"),
    [
        (b"/ref/", b"Content-Type: a/b\r\nContent-Type: a/b"),  # refused before anything else is looked at
        (b"//ref/", b"X: y"),
        (b"/%2Fref%2f", b"X: y"),
        (b"/hub/Ref/", b"X: y"),
    ],
)
async def test_the_token_of_an_invitation_is_not_logged_when_its_link_is_refused(
    written: io.BytesIO, path: bytes, header: bytes
) -> None:
    async with running_gateway() as running:
        answer = await send_raw(
            running.port, b"GET %b0123456789abcdef HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (path, header)
        )
        (line,) = lines_of(running, written)
    assert line["status"] in {400, 404}
    assert b"0123456789abcdef" not in written.getvalue()
    assert f" {line['status']} ".encode() in answer


async def test_a_line_break_in_a_path_forges_no_line(written: io.BytesIO) -> None:
    async with running_gateway() as running:
        await send_raw(running.port, b'GET /%0a{"level":"info"} HTTP/1.1\r\nHost: x\r\n\r\n')
        assert len(lines_of(running, written)) == 1


class Deaf(io.RawIOBase):
    """Standard output whose reader is gone."""

    def write(self, _: Any) -> int:
        raise BrokenPipeError


async def test_a_log_that_nobody_reads_stops_nothing_and_piles_up_nowhere() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        running.door._access._stream = Deaf()  # type: ignore[assignment]
        for _ in range(3):
            assert (await client.get(OPEN)).status_code == 200
            running.door._access.flush()
        assert running.door._access._lines == []
