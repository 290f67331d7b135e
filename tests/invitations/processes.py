"""Roles of invitations as processes of their own, so that they can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import orjson

from local.processes import free_port
from services.invitations.settings import InvitationsSettings
from tests.support.eventually import eventually

_SECRETS = {"database_url", "secret_keys", "verimor_password", "twilio_auth_token"}
_GENERAL = {"environment", "log_level", "jwks_url", "token_issuer", "token_audience", "owner_database_url"}


class RoleProcess:
    """A running role."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    async def ready(self) -> None:
        """Wait until all parts of it are at work."""
        async with httpx.AsyncClient(trust_env=False) as client:

            async def is_ready() -> bool:
                assert self.process.poll() is None, "the process ended"
                try:
                    return (await client.get(f"{self.url}/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_ready, within=120, what="readiness")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def peak_megabytes(self) -> float:
        """Read the most memory that it has held so far (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def processor_seconds(self) -> float:
        """Read what it and its ended children have used so far (Linux): other work on the machine does not count."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    async def stop(self) -> int:
        """Tell it to stop and wait; gives its exit code."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 60)


@contextmanager
def running_role(
    role: str,
    settings: InvitationsSettings,
    amqp_url: str,
    log: Path,
    *,
    jwks_url: str = "",
    port: int = 0,
    **changes: Any,
) -> Iterator[RoleProcess]:
    """Start `api` or `worker` with these settings; it is killed at the end if it still runs."""
    port = port or free_port()
    chosen = settings.model_dump() | {"port": port, "worker_port": port, "amqp_url": amqp_url} | changes
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "JWKS_URL": jwks_url}
    for name, value in chosen.items():
        if value is not None and name not in _GENERAL:
            plain = getattr(settings, name).get_secret_value() if name in _SECRETS else value
            environment[f"INVITATIONS_{name.upper()}"] = str(plain)
    command = [sys.executable, "-m", "services.invitations", role]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], env=environment, stdout=output, stderr=output
        )
    try:
        yield RoleProcess(process, port)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def serving_keys(keys: Mapping[str, Any]) -> Iterator[str]:
    """Serve an issuer's keys as auth does; gives the address."""
    body = orjson.dumps(keys)

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        finally:
            server.shutdown()
