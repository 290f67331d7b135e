"""A whole running system, with everybody who can make it write an audit event."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from local.client import Client
from local.environment import CLIENT_ID, TENANT_ID
from local.sql import query

ROOT: Final = Path(__file__).parents[3]
EVENTS: Final = "/api/v1/audit/events"
# Shorter than in production, so that what waits for a time out there happens while a test looks on.
SHORTENED: Final = {
    "AUTH_REFRESH_GRACE_SECONDS": "0",
    "AUTH_SIGN_IN_FREE_FAILURES": "2",
    "INVITATIONS_RESEND_PAUSE_SECONDS": "0",
    "GATEWAY_SIGN_INS_PER_MINUTE": "1000",
    "GATEWAY_RESETS_PER_MINUTE": "1000",
}
_PATIENCE_SECONDS: Final = 60.0
T = TypeVar("T")


@dataclass
class Hub:
    """The system under test: callers of the gateway, operators at a terminal, the outside world."""

    stack: dict[str, Any]
    run_dir: Path
    _clients: dict[str, Client] = field(default_factory=dict)

    def visitor(self) -> Client:
        """Give a caller who has not signed in."""
        return self._clients.setdefault("", Client(self.stack["gateway_url"]))

    def caller(self, name: str) -> Client:
        """Give a demo account's client, signed in."""
        if name not in self._clients:
            account = self.stack["accounts"][name]
            self._clients[name] = self.signed_in(account["email"], account["password"])
        return self._clients[name]

    def signed_in(self, email: str, password: str) -> Client:
        """Sign somebody in on a device of their own."""
        client = Client(self.stack["gateway_url"]).sign_in(email, password)
        self._clients[f"{email} {len(self._clients)}"] = client
        return client

    def new_person(self, name: str, password: str) -> tuple[int, Client]:
        """Make an account without roles, give it its first password by the token of the letter, and sign it in."""
        email = f"{name}@example.com"
        made = self.caller("admin").call(
            "POST", "/api/v1/auth/users", json={"email": email, "full_name": name.title(), "roles": []}
        )
        self.set_password(self.letter_to(email), password)
        account_id: int = made.raise_for_status().json()["id"]
        return account_id, self.signed_in(email, password)

    def letter_to(self, email: str, *, but: str | None = None) -> str:
        """Wait for the reset token that is delivered to an address, other than one that came before."""
        line = re.compile(rf"\[Password Reset\] Token for {re.escape(email)}: (\S+)\n")
        log = Path(self.stack["logs"]["auth-worker"])

        def newest() -> str | None:
            found = line.findall(log.read_text(errors="replace"))
            return found[-1] if found and found[-1] != but else None

        return self.eventually(newest, what=f"a letter to {email}")

    def set_password(self, token: str, password: str) -> httpx.Response:
        """Set a password with a reset token."""
        body = {"token": token, "new_password": password}
        return self.visitor().call("POST", "/api/v1/auth/reset-password", json=body)

    def operate(self, service: str, *arguments: str, **more: str) -> tuple[int, str]:
        """Run an operator's command to its end; gives its exit code and what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", f"services.{service}", *arguments],
            cwd=ROOT,
            env={**os.environ, **self._terminal, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def sql(self, service: str, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as a service's own role."""
        return query(self.stack["database_urls"][service], statement)

    def turn(self, **knobs: Any) -> None:
        """Turn knobs of the sandbox Microsoft."""
        self.microsoft.post("/_sandbox/knobs", json=knobs).raise_for_status()

    @cached_property
    def microsoft(self) -> httpx.Client:
        """Give a browser that trusts the sandbox Microsoft."""
        trust = ssl.create_default_context(cafile=self.stack["sandbox"]["microsoft_ca_file"])
        return httpx.Client(base_url=self.stack["sandbox"]["microsoft"], verify=trust, timeout=30, trust_env=False)

    def find(self, **filters: Any) -> dict[str, Any]:
        """Wait until the audit API shows a record, as the auditor sees it; gives the newest."""

        def newest() -> dict[str, Any] | None:
            answer = self.caller("auditor").call("GET", EVENTS, params=filters | {"limit": 1})
            items: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
            return items[0] if items else None

        return self.eventually(newest, what=f"a record with {filters}")

    def eventually(self, look: Callable[[], T | None], *, what: str) -> T:
        """Wait until something is there, and give it."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (found := look()) is None or found is False:
            assert time.monotonic() < deadline, f"after {_PATIENCE_SECONDS:.0f} s there is no sign of {what}"
            time.sleep(0.1)
        return found

    def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            client.http.close()
        self.microsoft.close()

    @cached_property
    def _terminal(self) -> Mapping[str, str]:
        """Give the variables that operators' commands are run with: those of the services."""
        sandbox, databases = self.stack["sandbox"], self.stack["database_urls"]
        return {f"{name.upper()}_DATABASE_URL": url for name, url in databases.items()} | {
            "AMQP_URL": self.stack["amqp_url"],
            "AUTH_SECRET_KEYS": self.secret("auth-key"),
            "AUDIT_SECRET_KEYS": self.secret("audit-key"),
            "AUDIT_SIGNING_KEY_FILE": str(self.run_dir / "secrets" / "audit-signing.pem"),
            "AUDIT_CHECKPOINT_DIR": str(self.run_dir / "audit-checkpoints"),
            "HUNTER_PARTNER_CENTER_ENABLED": "true",
            "HUNTER_PARTNER_CENTER_TENANT_ID": TENANT_ID,
            "HUNTER_PARTNER_CENTER_CLIENT_ID": CLIENT_ID,
            "HUNTER_PARTNER_CENTER_AUTHORITY": sandbox["microsoft"],
            "HUNTER_PARTNER_CENTER_API_URL": sandbox["microsoft"],
            "HUNTER_PARTNER_CENTER_CA_FILE": sandbox["microsoft_ca_file"],
            "HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS": self.secret("token-cache-key"),
        }

    def secret(self, name: str) -> str:
        """Give a secret of this run, as the services have it."""
        return (self.run_dir / "secrets" / name).read_text()
