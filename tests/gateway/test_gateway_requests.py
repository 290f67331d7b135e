"""The whole gateway over real sockets: who may pass, and what gets through."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from shared.errors import Unavailable
from tests.gateway.raw import Line, raw_service, send_raw
from tests.gateway.recording import CLOSED, OPEN, assert_problem, record, seen
from tests.gateway.running import running_gateway
from tests.support.tokens import Issuer

# --- who may pass


async def test_a_public_route_needs_no_token() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        for path in (OPEN, "/ref/abc", "/callbacks/verimor", "/.well-known/jwks.json", "/api/auth/refresh"):
            assert (await client.get(path)).status_code == 200


async def test_everything_else_needs_a_good_token(issuer: Issuer) -> None:
    forged = Issuer().token(1, "Admin")
    expired = issuer.token(1, "Admin", exp=1)
    other_kind = issuer.token(1, "Admin", typ="JWT")
    other_audience = issuer.token(1, "Admin", aud="somebody-else")
    async with (
        raw_service(record) as service,
        running_gateway(service.url, issuer=issuer) as running,
        running.client() as client,
    ):
        for path in (CLOSED, "/api/v1/auth/me", "/api/Sponsorship/codes", "/api/v1/audit/events", "/api/v1/auth/x"):
            answer = await client.get(path)
            assert_problem(answer, 401, "TOKEN_MISSING")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert (await client.get(path, headers=issuer.headers(1, "Admin"))).status_code == 200
        for token in (forged, expired, other_kind, other_audience, "x", "a.b.c", "é".encode()):
            value = token if isinstance(token, bytes) else token.encode()
            answer = await client.get(CLOSED, headers=[(b"authorization", b"Bearer " + value)])
            assert_problem(answer, 401, "TOKEN_INVALID")
        assert len(service.heads) == 5, "what is refused never reaches a service"


async def test_while_nobody_can_tell_good_tokens_nobody_gets_in(issuer: Issuer) -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:

        async def no_keys() -> Any:
            raise Unavailable

        running.gateway.verifier._fetch = no_keys
        answer = await client.get(CLOSED, headers=issuer.headers(1, "Admin"))
        assert_problem(answer, 503, "UNAVAILABLE")
        assert answer.headers["retry-after"]
        assert service.heads == []


# --- what gets through


async def test_a_path_reaches_its_service_byte_for_byte(issuer: Issuer) -> None:
    async with (
        raw_service(record) as service,
        running_gateway(service.url, issuer=issuer) as running,
        running.client(headers=issuer.headers(1, "Admin")) as client,
    ):
        wrong_door = "/api/Sponsorship/farmer/invitations/bulk?onBehalfOfSponsorId=6"
        assert (await client.post(wrong_door)).text.startswith(f"POST {wrong_door} HTTP/1.1\n")
        raw = "/api/v1/sponsorship/farmer/%C3%87ift%C3%A7i?q=%2e%2e%2f&q=%00&a=b;c"
        assert (await client.get(raw)).text.startswith(f"GET {raw.replace('v1/sponsorship', 'Sponsorship')} HTTP/1.1\n")


async def test_only_the_gateway_says_who_and_where_the_caller_is() -> None:
    lies = {
        "X-User-Id": "1",
        "x_user_id": "1",
        "X-Roles": "Admin",
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "Forwarded": "for=6.6.6.6",
        "X-Real-IP": "6.6.6.6",
        "X-Original-URL": "/api/v1/audit/events",
        "X-HTTP-Method-Override": "DELETE",
        "Cookie": "session=evil",
        "Connection": "keep-alive, x-forwarded-for, x-request-id, authorization",
        "X-Custom": "stays",
    }
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        headers = seen(await client.get(OPEN, headers=lies))
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-proto"] == "http"
        assert headers["x-forwarded-host"] == headers["host"] == f"127.0.0.1:{running.port}"
        assert headers["x-custom"] == "stays"
        assert headers["x-request-id"]
        assert headers["traceparent"]
        assert "6.6.6.6" not in str(headers)
        assert "evil" not in str(headers)
        ours = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "traceparent"}
        plain = {"host", "accept", "accept-encoding", "user-agent", "x-custom"}
        assert headers.keys() <= ours | plain


async def test_a_trusted_proxy_says_who_the_client_is() -> None:
    told = {"x-forwarded-for": "6.6.6.6, 203.0.113.9", "x-forwarded-proto": "https"}
    async with (
        raw_service(record) as service,
        running_gateway(service.url, trusted_proxies="127.0.0.1") as running,
        running.client() as client,
    ):
        answer = await client.get(OPEN, headers=told)
        assert seen(answer)["x-forwarded-for"] == "203.0.113.9"
        assert seen(answer)["x-forwarded-proto"] == "https"
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert "strict-transport-security" not in (await client.get(OPEN)).headers


async def test_request_id_and_trace_go_along() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        answer = await client.get(OPEN, headers={"x-request-id": "my-id.1", "traceparent": trace})
        assert answer.headers.get_list("x-request-id") == ["my-id.1"]
        assert seen(answer)["x-request-id"] == "my-id.1"
        forwarded = seen(answer)["traceparent"]
        assert forwarded[:36] == trace[:36], "the same trace"
        assert forwarded[36:52] != trace[36:52], "under a span of our own"
        state = {"traceparent": trace, "tracestate": "vendor=1"}
        assert seen(await client.get(OPEN, headers=state))["tracestate"] == "vendor=1"
        for bad in ("nonsense", trace.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)):
            fresh = seen(await client.get(OPEN, headers=state | {"traceparent": bad}))
            assert "tracestate" not in fresh
            assert "0" * 32 not in fresh["traceparent"]
        insane = await client.get(OPEN, headers={"x-request-id": "a b\tc", "traceparent": "nonsense"})
        assert insane.headers["x-request-id"] == seen(insane)["x-request-id"] != "a b\tc"
        assert seen(insane)["traceparent"].startswith("00-")


async def test_a_services_own_connection_headers_stay_inside() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        answer = await client.get(OPEN)
        assert "secret" not in str(answer.headers)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert len(answer.headers.get_list("date")) == 1


async def test_compressed_answers_pass_as_they_are() -> None:
    packed = gzip.compress(b"hello" * 1_000)

    async def script(line: Line) -> None:
        await line.head()
        await line.say(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed
        )

    async with raw_service(script) as service, running_gateway(service.url) as running, running.client() as client:
        assert (await client.get(OPEN)).text == "hello" * 1_000


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_body_is_relayed(status: int) -> None:
    async def script(line: Line) -> None:
        while True:
            await line.head()
            await line.say(b"HTTP/1.1 %d X\r\netag: x\r\ncontent-length: 10\r\n\r\n" % status)

    async with raw_service(script) as service, running_gateway(service.url) as running, running.client() as client:
        for _ in range(2):
            answer = await client.get(OPEN)
            assert (answer.status_code, answer.content) == (status, b"")


async def test_a_head_request_tells_the_length_and_nothing_else() -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        answer = await client.head(OPEN)
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) > 0
        assert answer.content == b""
        assert (await client.head(CLOSED)).status_code == 401


# --- odd requests


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/auth/../audit/events",
        "/api/v1/auth/%2e%2e/audit",
        "/api/v1/auth%2flogin",
        "/api/v1/auth/%5clogin",
        "/api/v1/auth/login%00",
        "/api/v1/auth/%252e%252e/",
        "//api/v1/auth/login",
        "/api/v1/auth/login;x=1",
        "/api/v1/auth/%6cogin",
        "/api/v1/auth/login\\..",
    ],
)
async def test_an_odd_path_is_refused_before_anything_else(path: str) -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running:
        answer = await send_raw(running.port, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "PATH_NOT_ALLOWED"
        assert service.heads == []


async def test_an_unknown_area_is_told_the_areas() -> None:
    async with running_gateway() as running, running.client() as client:
        problem = assert_problem(await client.get("/api/v1/nothing/x"), 404, "UNKNOWN_AREA")
        assert problem["areas"] == ["/api/v1/auth", "/api/referrals", "/api/Sponsorship", "/api/v1/audit"]
        assert "/api/Sponsorship" in problem["detail"]


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PURGE", "LINK"])
async def test_only_known_methods_pass(method: str) -> None:
    async with raw_service(record) as service, running_gateway(service.url) as running, running.client() as client:
        answer = await client.request(method, OPEN)
        assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        assert service.heads == []
