"""What every step of the tour uses: the callers, the sandbox, the logs, and checks that fail with a clear sentence."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import httpx

from local.client import Client
from local.tour.system import System
from local.tour.telling import Teller, describe_json

OK: Final = httpx.codes.OK
PATIENCE_SECONDS: Final = 60.0
T = TypeVar("T")


class NotAsPromised(Exception):
    """Something that must hold does not."""


@dataclass
class Guide:
    """Leads through one running system."""

    stack: dict[str, Any]
    system: System
    teller: Teller
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # What later steps look for in the audit log: the request id of each call that did something.
    request_ids: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)
    outside: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    def visitor(self) -> Client:
        """Give a caller who has not signed in."""
        return self.clients.setdefault("", Client(self.stack["gateway_url"]))

    def caller(self, name: str) -> Client:
        """Give an account's client, signed in."""
        if name not in self.clients:
            account = self.stack["accounts"][name]
            self.clients[name] = Client(self.stack["gateway_url"]).sign_in(account["email"], account["password"])
        return self.clients[name]

    def forget(self, name: str) -> None:
        """Sign in anew next time: the account's sessions have ended."""
        if name in self.clients:
            self.clients.pop(name).http.close()

    def call(self, client: Client, method: str, path: str, *, quietly: bool = False, **more: Any) -> httpx.Response:
        """Call the gateway, and show both directions."""
        answer = client.call(method, path, **more)
        if not quietly:
            sent = describe_json(more["json"]) if "json" in more else ""
            files = ", ".join(
                f"{name}={file[0]} ({len(file[1])} bytes)" for name, file in more.get("files", {}).items()
            )
            self.teller.sent(answer.request, sent or files)
            self.teller.received(answer)
        return answer

    def check(self, what: str, actual: Any, expected: Any) -> None:
        """Go on only if two things are equal."""
        self.check_quietly(what, actual, expected)
        self.teller.checked(f"{what}: {describe_json(actual) if isinstance(actual, dict | list) else actual}")

    def check_quietly(self, what: str, actual: Any, expected: Any) -> None:
        """Go on only if two things are equal, without a word if they are."""
        if actual != expected:
            raise NotAsPromised(f"{what}: expected {expected!r}, and it is {actual!r}")

    def check_that(self, what: str, *, holds: bool, instead: object = None) -> None:
        """Go on only if something holds."""
        if not holds:
            raise NotAsPromised(
                f"this does not hold: {what}" + (f"; instead: {instead!r}" if instead is not None else "")
            )
        self.teller.checked(what)

    def wait_for(self, what: str, look: Callable[[], T | None], seconds: float = PATIENCE_SECONDS) -> T:
        """Wait until something is there, and give it."""
        deadline = time.monotonic() + seconds
        while (found := look()) is None or found is False:
            if time.monotonic() > deadline:
                raise NotAsPromised(f"after {seconds:.0f} s there is still no sign of this: {what}")
            time.sleep(0.2)
        return found

    def provider(self, name: str, **parameters: Any) -> Any:
        """Look into the messaging provider's stand-in."""
        answer = self.outside.get(f"{self.stack['sandbox']['provider']}/_sandbox/{name}", params=parameters)
        return answer.raise_for_status().json()

    def microsoft(self) -> httpx.Client:
        """Give a browser for the stand-in of Microsoft, that trusts its certificate."""
        sandbox = self.stack["sandbox"]
        trust = ssl.create_default_context(cafile=sandbox["microsoft_ca_file"])
        return httpx.Client(base_url=sandbox["microsoft"], verify=trust, timeout=30, trust_env=False)

    def log_lines(self, role: str) -> list[str]:
        """Give the messages in a role's log."""
        lines = self.system.log_of(role).splitlines()
        return [json.loads(line)["message"] if line.startswith("{") else line for line in lines]

    def sql(self, service: str, statement: str) -> Any:
        """Ask the database one figure, with a service's rights and in its schema."""
        return self.system.sql(service, statement)

    def stock(self, state: str) -> dict[str, int]:
        """Count sponsor 6's codes in one state, by tier."""
        answer = self.caller("sponsor").call("GET", "/api/Sponsorship/codes")
        return {tier["tier"]: tier[state] for tier in answer.raise_for_status().json()["tiers"]}

    def remember(self, name: str, answer: httpx.Response) -> None:
        """Keep the request id of a call, for the step that looks for its traces."""
        self.request_ids[name] = answer.headers["x-request-id"]

    def close(self) -> None:
        """Close every connection."""
        for client in self.clients.values():
            client.http.close()
        self.outside.close()
