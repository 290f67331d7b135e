"""referrals: what it costs to store referrals, beyond fetching them."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from benchmarks.arena import HOME, RUN_DIR, Arena, in_loop
from benchmarks.contest import Aim, Limit, Row
from shared.migrate import migrate

OURS = "sync into Postgres"
DISCARD = "the same pages, discarded"
FOLDER = RUN_DIR / "microsoft"
START_SECONDS = 30


def row(arena: Arena, *, size: int) -> Row:
    """Sync `size` referrals from the sandbox, against fetching the same pages only."""

    def contender(what: str) -> dict[str, float]:
        arena.execute("DROP SCHEMA IF EXISTS referrals CASCADE")
        in_loop(migrate(arena.postgres_url, arena.postgres_url, "referrals", HOME / "services/referrals/migrations"))
        arena.execute("CHECKPOINT")
        with _microsoft(size) as url:
            figures = arena.run("referrals", what, url, str(FOLDER / "ca.pem"))
        assert figures.pop("referrals") == size
        return figures

    return Row(
        name="referrals",
        title=f"{size:,} referrals, {size // 100:,} pages of 100, from the sandbox over TLS",
        contenders={OURS: lambda: contender("store"), DISCARD: lambda: contender("discard")},
        units={"rate": "referrals/s", "megabytes": "MB at the peak"},
        aims=[Aim(DISCARD, "rate", 0.5)],
        limits=[Limit("megabytes", 150)],
        terms=[
            "both: one process on uvloop, the service's own client, one page after the other, each parsed as JSON",
            "sync: every referral checked, stored with raw JSON, history, event and position in one transaction a page",
            "sync: the next page is fetched and read meanwhile; the relay, which publishes the events, does not run",
            "discard: the pages are dropped; the sandbox shares the machine with both",
        ],
    )


@contextmanager
def _microsoft(size: int) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sandbox", "microsoft", "--port", str(port), "--dir", str(FOLDER)]
    process = subprocess.Popen([*command, "--referrals", str(size), "--auto-approve"], cwd=HOME)
    try:
        _wait(f"https://localhost:{port}/_sandbox/state", process)
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            trust = ssl.create_default_context(cafile=FOLDER / "ca.pem")
            httpx.get(url, verify=trust, trust_env=False).raise_for_status()
        except (OSError, httpx.HTTPError):
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the sandbox did not start")
