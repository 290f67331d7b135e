"""What clients of auth see: bad input is refused, whatever it is, and reaches nobody."""

from __future__ import annotations

import pytest

from services.auth.routes.door import once
from shared.errors import Invalid
from shared.events import PasswordResetRequested
from tests.auth.conftest import API, Auth, outcome

ADMIN, SPONSOR = "admin@example.com", "sponsor@example.com"


@pytest.mark.parametrize(
    "body",
    [
        b'{"email": ["admin@example.com", "attacker@example.org"]}',
        b'{"email": {"a": "admin@example.com"}}',
        b'{"email": "admin@example.com", "email": "attacker@example.org"}',
        b'{"email": "admin@example.com,attacker@example.org"}',
        b'{"email": "admin@example.com\\r\\nBcc: attacker@example.org"}',
        '{"email": "adm\u0131n@example.com"}'.encode(),
        '{"email": "\uff41dmin@example.com"}'.encode(),
        b'{"email": "admin@example.com\\u0000"}',
        b'{"email": "\\ud800@example.com"}',
        b'{"email": null}',
        b'{"email": 1e999}',
        b"{}",
        b"[]",
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"email": "' + b"x" * 1_000_000 + b'"}',
        b'{"email": "admin@example.com", "to": "attacker@example.org"}',
    ],
)
async def test_an_odd_reset_request_is_refused_and_reaches_nobody(auth: Auth, body: bytes) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.add("attacker@example.org", "Player")
    answer = await auth.client.post(
        f"{API}/request-password-reset", content=body, headers={"content-type": "application/json"}
    )
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await auth.events(PasswordResetRequested) == []


@pytest.mark.parametrize("path", ["/login", "/refresh", "/reset-password", "/request-password-reset"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"email": "admin@example.com", "password": "x", "password": "y"}',
        b'{"email": "a", "password": "' + b"x" * 1_000_000 + b'"}',
        b'{"token": "' + b"x" * 100_000 + b'", "new_password": "x"}',
        b'{"refresh_token": {"$ne": null}}',
        b'{"email": "a@example.com", "password": "\\ud800"}',
        b'{"refresh_token": "\\ud800"}',
        b'{"token": "\\ud800", "new_password": "\\u0000"}',
        b'{"\\ud800": 1}',
        b'{"\\ud800": 1, "\\ud800": 2}',
    ],
)
async def test_odd_bodies_are_refused_everywhere(auth: Auth, path: str, body: bytes) -> None:
    answer = await auth.client.post(f"{API}{path}", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text


async def test_nul_bytes_in_secrets_are_just_wrong(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    assert outcome(await auth.login(ADMIN, "\x00" * 20)) == (401, "INVALID_CREDENTIALS")
    assert outcome(await auth.post("/refresh", {"refresh_token": "\x00"}))[0] == 401


def test_a_name_that_appears_twice_is_found_without_comparing_each_with_each() -> None:
    """A body of 64 KiB has thousands of names, and while it is read nobody else is served."""
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    with pytest.raises(Invalid):
        once([(Name(number), 0) for number in [*range(5_000), 4_999]])
    assert compared < 50_000
