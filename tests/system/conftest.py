"""One whole system for the tests that look at it from outside: all processes, behind a gateway without brakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from local import stack
from local.client import Client
from tests.support.stacks import run_dir

_QUEUES: Final = ("/api/v1/auth", "/api/referrals", "/api/Sponsorship/admin", "/api/v1/audit")
# Addresses that are a fixed word for one method and somebody's id for another: GET there says that the id is none.
ALSO_AN_ID: Final = frozenset(
    {
        "/api/Sponsorship/farmer/invitations/bulk",
        "/api/referrals/sign-in",
        *(f"{area}/queues/dead-letters/{deed}" for area in _QUEUES for deed in ("redrive", "drop")),
    }
)
_LIMITS: Final = ("SIGN_INS", "RESETS", "PUBLIC_CALLS", "ADDRESS_CALLS", "ACCOUNT_CALLS")


@pytest.fixture(scope="package")
def system() -> Iterator[dict[str, Any]]:
    """What stack.json says of a system whose gateway lets thousands of calls of one caller through."""
    home = run_dir("contract")
    with pytest.MonkeyPatch.context() as patch:
        for limit in _LIMITS:
            patch.setenv(f"GATEWAY_{limit}_PER_MINUTE", "1000000")
        # A test of the audit log need not wait for a minute until what it did is vouched for.
        patch.setenv("AUDIT_CHECKPOINT_SECONDS", "5")
        try:
            yield stack.up(home)
        finally:
            stack.down(home)


class People:
    """Who calls: each account signs in once; wrong passwords of a later test cannot keep it out then."""

    def __init__(self, system: dict[str, Any]) -> None:
        self._system = system
        self._refresh_tokens: dict[str, str] = {}

    def token(self, name: str) -> str:
        """Give an access token that is good for the next ten minutes."""
        with Client(self._system["gateway_url"]) as client:
            if name in self._refresh_tokens:
                answer = client.call("POST", "/api/v1/auth/refresh", json={"refresh_token": self._refresh_tokens[name]})
            else:
                account = self._system["accounts"][name]
                answer = client.call(
                    "POST", "/api/v1/auth/login", json={"email": account["email"], "password": account["password"]}
                )
        tokens = answer.raise_for_status().json()
        self._refresh_tokens[name] = tokens["refresh_token"]
        return str(tokens["access_token"])


@pytest.fixture(scope="package")
def people(system: dict[str, Any]) -> People:
    """The accounts of the system, signed in."""
    made = People(system)
    for name in ("admin", "sponsor", "auditor"):
        made.token(name)
    return made
