"""The sandbox Microsoft as a real process with real TLS."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from local.processes import free_port

TENANT = "3f1c9a52-7f0e-4b7c-9a64-1d1f6c2b8e10"
CLIENT_ID = "9b1f7c04-52a8-4c39-8a4e-0c6d2f7e5b21"
SCOPE = "https://api.partner.microsoft.com/.default"
_START_SECONDS = 60


class SandboxMicrosoft:
    """A running sandbox and its knobs."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.ca_file = directory / "ca.pem"
        self.url = f"https://localhost:{port}"
        self.authority = f"{self.url}/{TENANT}"
        self._client: httpx.Client | None = None

    @property
    def http(self) -> httpx.Client:
        """A client that trusts the sandbox; made late, since the CA's file is made by the server."""
        if self._client is None:
            trust = ssl.create_default_context(cafile=self.ca_file)
            # No connection is used again that the server may be closing just then, as it does after five idle seconds.
            limits = httpx.Limits(keepalive_expiry=1)
            self._client = httpx.Client(base_url=self.url, verify=trust, trust_env=False, timeout=60, limits=limits)
        return self._client

    def reset(self, referrals: int = 250) -> None:
        self._post("reset", {"referrals": referrals})

    def turn(self, **knobs: Any) -> None:
        self._post("knobs", knobs)

    def change(self, **changes: Any) -> dict[str, list[str]]:
        answer: dict[str, list[str]] = self._post("referrals", changes)
        return answer

    def revoke(self) -> None:
        self._post("revoke", {})

    def state(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/_sandbox/state").raise_for_status().json()
        return answer

    def decide(self, user_code: str, decision: str = "approve") -> str:
        page = self.http.post("/devicelogin", data={"user_code": user_code, "decision": decision})
        return page.raise_for_status().text

    def referral_id(self, index: int) -> str:
        return f"5eed0000-0000-4000-8000-{index:012x}"

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _post(self, what: str, body: dict[str, Any]) -> Any:
        return self.http.post(f"/_sandbox/{what}", json=body).raise_for_status().json()


@contextmanager
def running_microsoft(directory: Path) -> Iterator[SandboxMicrosoft]:
    """Start the sandbox as its own process and stop it again."""
    sandbox = SandboxMicrosoft(free_port(), directory)
    command = [sys.executable, "-m", "sandbox", "microsoft", "--port", str(sandbox.port), "--dir", str(directory)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            _wait_until_listening(process, sandbox.port)
            yield sandbox
        finally:
            sandbox.close()
            process.terminate()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the sandbox ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the sandbox did not listen in time")
