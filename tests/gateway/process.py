"""The gateway as its own process, as it runs in production."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from local.processes import free_port
from tests.gateway.running import AWAY
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]


@dataclass
class Process:
    """A running gateway."""

    port: int
    process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory(self) -> int:
        """How many bytes it holds in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1_024

    @property
    def most_memory(self) -> int:
        """How many bytes it has held at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1_024

    def terminate(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)


def environment(service_url: str, **settings: str) -> dict[str, str]:
    """Give the environment of a gateway whose four services are one."""
    urls = {f"GATEWAY_{name}_URL": service_url for name in ("AUTH", "REFERRALS", "INVITATIONS", "AUDIT")}
    own = {"GATEWAY_AMQP_URL": f"amqp://guest:guest@{AWAY}/", "JWKS_URL": f"{service_url}/.well-known/jwks.json"}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | urls | own | settings


@asynccontextmanager
async def gateway_process(service_url: str, **settings: str) -> AsyncIterator[Process]:
    """Start a gateway and stop it afterwards; what it prints goes nowhere, as fast as it can."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.gateway",
        "api",
        cwd=ROOT,
        env=environment(service_url, GATEWAY_PORT=str(port), **settings),
        stdout=asyncio.subprocess.DEVNULL,
    )
    running = Process(port, process)
    try:
        await eventually(lambda: _answers(running.url), what="the gateway")
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"{url}/healthz")).is_success
        except httpx.TransportError:
            return False
