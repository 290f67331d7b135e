"""Paths: only what every program reads in the same way gets through."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.paths import check_path
from services.gateway.domain.refusals import PathRefused


@pytest.mark.parametrize(
    "path",
    [
        b"/api/v1/auth/../audit/events",
        b"/api/v1/auth/..",
        b"/api/v1/auth/./login",
        b"/api/v1/auth/.",
        b"/api//v1/auth/login",
        b"//evil.example/api",
        b"/api/v1/auth/%2e%2e/audit",
        b"/api/v1/auth/%2E%2e/audit",
        b"/api/v1/auth%2flogin",
        b"/api/v1/auth%2Flogin",
        b"/api/v1/auth%5clogin",
        b"/api/v1/auth\\login",
        b"/api/v1/auth/login%00",
        b"/api/v1/auth/login%0d%0ax-user-id:1",
        b"/api/v1/auth/%252e%252e/audit",
        b"/api/v1/auth/%25",
        b"/api/v1/auth/login;jsessionid=1",
        b"/api/v1/auth/login%3bx",
        b"/api/v1/auth/%6cogin",
        b"/api/v1/auth/%4Cogin",
        b"/api/v1/auth/logi%6E",
        b"/api/v1/auth/request%2Dpassword-reset",
        b"/api/v1/auth/%c0%ae%c0%ae/audit",
        b"/api/v1/auth/%ff",
        b"/api/v1/auth/%e2%82",
        b"/api/v1/auth/%zz",
        b"/api/v1/auth/%1",
        b"/api/v1/auth/\x7f",
        b"/api/v1/auth/\xc3\xa7",
        b"/api/v1/auth/%7f",
        b"/api/v1/auth/a b",
        b"/api/v1/auth/login.",
        b"/api/v1/auth./login",
        b"/api/v1/auth/...",
        b"/api/v1/auth/login%20",
        b"/api/v1/auth/..%20/login",
        b"api/v1/auth",
        b"",
    ],
)
def test_an_odd_path_is_refused(path: bytes) -> None:
    with pytest.raises(PathRefused):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/api/v1/auth/login",
        b"/api/Sponsorship/farmer/invitations/bulk/123",
        b"/.well-known/jwks.json",
        b"/ref/0123456789abcdef0123456789abcdef/opt-out",
        b"/api/v1/auth/users/a%20b",
        b"/api/v1/auth/users/%C3%A7ift%C3%A7i",
        b"/api/v1/audit/events/..x",
        b"/api/v1/auth/users/a@b.example:c,d=e+f!g$h&i'(j)*~_-",
    ],
)
def test_a_plain_path_passes(path: bytes) -> None:
    check_path(path)


@given(st.binary(max_size=40))
def test_what_passes_has_one_reading(tail: bytes) -> None:
    path = b"/api/v1/auth/" + tail
    try:
        check_path(path)
    except PathRefused:
        return
    once = unquote_to_bytes(path)
    assert unquote_to_bytes(once) == once, "decoding twice must change nothing"
    assert b"\\" not in once
    assert b"\0" not in once
    assert once.count(b"/") == path.count(b"/"), "no separator may appear by decoding"
    assert not {b"", b".", b".."} & set(once.removesuffix(b"/").split(b"/")[1:])
