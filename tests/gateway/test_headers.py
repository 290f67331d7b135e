"""Headers: who the caller is and where the call came from is for the gateway to say."""

from __future__ import annotations

import pytest

from services.gateway.domain.addresses import Networks, client_address
from services.gateway.domain.headers import read_headers, relayed_headers
from services.gateway.domain.refusals import HeaderRefused

HOST = (b"host", b"hub.example")


def passed(*headers: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    return dict(read_headers([HOST, *headers]).passed)


@pytest.mark.parametrize(
    "name",
    [
        b"x-user-id", b"x-user-roles", b"x-roles", b"x_user_id", b"x-user_id", b"forwarded", b"x-forwarded-for",
        b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-forwarded-anything", b"x-real-ip",
        b"x-original-url", b"x-rewrite-url", b"x-http-method-override", b"x-method-override", b"true-client-ip",
        b"x-principal-id", b"x-account-id", b"x-authenticated-userid", b"x-original-forwarded-for", b"x-request-id",
        b"traceparent", b"host", b"via", b"content_length", b"transfer_encoding", b"x-forwarded", b"remote-user",
        b"x-remote-groups", b"x-auth-request-email", b"x-consumer-id", b"x-jwt-assertion", b"x-client-cert",
        b"x-ssl-client-dn", b"ssl-client-cert", b"client-ip", b"x-permissions", b"x-on-behalf-of", b"x-sponsor-id",
        b"x-tenant-id", b"x-is-admin", b"proxy", b"cookie", b"tracestate",
    ],
)  # fmt: skip
def test_identity_and_forwarding_headers_do_not_pass(name: bytes) -> None:
    headers = [(name, b"1")] if name == b"host" else [HOST, (name, b"1")]
    assert name not in dict(read_headers(headers).passed)


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"upgrade",
        b"proxy-authorization",
        b"proxy-connection",
        b"expect",
    ],
)
def test_headers_of_one_connection_do_not_pass(name: bytes) -> None:
    assert name not in passed((name, b"whatever"))


def test_ordinary_headers_pass_as_they_are() -> None:
    ordinary = {
        b"authorization": b"Bearer x",
        b"accept": b"*/*",
        b"content-type": b"application/json",
        b"idempotency-key": b"k1",
        b"x-twilio-signature": b"s",
        b"user-agent": b"curl",
        b"x-custom": b"\xc3\xa7",
    }
    assert passed(*ordinary.items()) == ordinary


def test_headers_that_the_connection_header_names_go_with_it() -> None:
    assert passed((b"connection", b"close, X-Custom"), (b"x-custom", b"1"), (b"accept", b"*/*")) == {b"accept": b"*/*"}
    assert passed((b"connection", b"x-a"), (b"connection", b"x-b"), (b"x-a", b"1"), (b"x-b", b"1")) == {}


def test_headers_that_matter_stay_whatever_the_connection_header_says() -> None:
    asked = {b"authorization": b"Bearer x", b"content-type": b"a/b", b"idempotency-key": b"k"}
    nominated = b"keep-alive, authorization, content-type, idempotency-key"
    assert passed((b"connection", nominated), *asked.items()) == asked


def test_repeated_headers_that_are_lists_are_read_as_one() -> None:
    read = read_headers([HOST, (b"cookie", b"a=1"), (b"cookie", b"b=2"), *[(b"x-forwarded-for", b"6.6.6.6")] * 2])
    assert read.get(b"cookie") == b"a=1; b=2"
    assert read.get(b"x-forwarded-for") == b"6.6.6.6,6.6.6.6"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HOST, HOST],
        [(b"host", b"a b")],
        [(b"host", b"hub.example/evil")],
        [(b"host", b"user@hub.example")],
        [(b"host", b"")],
        [HOST, (b"content-length", b"1"), (b"content-length", b"1")],
        [HOST, (b"content-length", b"+1")],
        [HOST, (b"content-length", b"1, 1")],
        [HOST, (b"content-length", b"-1")],
        [HOST, (b"content-length", b"0x1")],
        [HOST, (b"content-length", b"")],
        [HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [HOST, (b"transfer-encoding", b"chunked, identity")],
        [HOST, (b"transfer-encoding", b"gzip, chunked")],
        [HOST, (b"transfer-encoding", b"\x0bchunked")],
        [HOST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [HOST, (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        [HOST, (b"x-custom", b"a\r\nx-user-id: 1")],
        [HOST, (b"x-custom", b"a\nb")],
        [HOST, (b"x-custom", b"a\0b")],
    ],
)
def test_headers_with_two_readings_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(HeaderRefused):
        read_headers(headers)


def test_only_http_1_0_may_leave_out_the_host_and_it_knows_no_chunks() -> None:
    assert read_headers([], http_version="1.0").passed == []
    with pytest.raises(HeaderRefused):
        read_headers([HOST, (b"transfer-encoding", b"chunked")], http_version="1.0")


def test_a_body_is_announced_by_either_framing() -> None:
    assert read_headers([HOST, (b"content-length", b"12")]).content_length == 12
    assert read_headers([HOST, (b"content-length", b"12")]).has_body
    assert read_headers([HOST, (b"transfer-encoding", b"Chunked")]).has_body
    assert not read_headers([HOST, (b"content-length", b"000")]).has_body
    assert not read_headers([HOST]).has_body


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer  abc ", "abc"),
        (b"Basic abc", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"", None),
    ],
)
def test_the_bearer_token_is_read(value: bytes, token: str | None) -> None:
    assert read_headers([HOST, (b"authorization", value)]).bearer == token


def test_what_a_service_says_about_its_connection_stays_here() -> None:
    said = [
        (b"content-type", b"application/json"),
        (b"content-length", b"2"),
        (b"connection", b"close, x-internal"),
        (b"x-internal", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"server", b"uvicorn"),
        (b"date", b"now"),
        (b"x-request-id", b"theirs"),
        (b"access-control-allow-origin", b"*"),
        (b"location", b"/api/x"),
    ]
    assert relayed_headers(said, with_length=True) == [said[0], said[1], said[-1]]
    assert relayed_headers(said, with_length=False) == [said[0], said[-1]]


def test_a_client_can_not_choose_its_address() -> None:
    assert client_address("203.0.113.9", b"10.0.0.1", Networks([])) == "203.0.113.9"
    assert client_address("203.0.113.9", b"10.0.0.1", Networks(["192.0.2.0/24"])) == "203.0.113.9"


def test_behind_trusted_proxies_the_nearest_other_address_is_the_client() -> None:
    proxies = Networks(["192.0.2.0/24", "::1"])
    assert client_address("192.0.2.1", b"6.6.6.6, 203.0.113.9, 192.0.2.7", proxies) == "203.0.113.9"
    assert client_address("192.0.2.1", None, proxies) == "192.0.2.1"
    assert client_address("192.0.2.1", b"203.0.113.9, junk", proxies) == "192.0.2.1"
    assert client_address("::1", b"2001:db8::5", proxies) == "2001:db8::5"
    assert client_address("::ffff:192.0.2.1", b"203.0.113.9", proxies) == "203.0.113.9", "on a socket of both families"
