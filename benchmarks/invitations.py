"""What the rows about invitations share: the service's schema, a sponsor with codes, and the sandbox's provider."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from benchmarks.arena import HOME, Arena, in_loop
from local.processes import free_port
from services.invitations.__main__ import MIGRATIONS
from shared.migrate import migrate

SPONSOR = 6
TIER = "M"
SECRET_KEYS = base64.b64encode(bytes(range(32))).decode()
START_SECONDS = 20.0
_SPONSOR = """INSERT INTO invitations.accounts (id, version, full_name, roles, is_active)
              VALUES ($1, 1, 'Deniz Örnek', '{Sponsor}', true)"""
_STOCK = """INSERT INTO invitations.codes (code, sponsor_id, tier, added_by)
            SELECT upper(md5(n::text)), $1, $2, $1 FROM generate_series(1, $3) AS n"""
_PEER_STOCK = "INSERT INTO peer_codes (code, sponsor_id, tier) SELECT code, sponsor_id, tier FROM invitations.codes"


def prepare(arena: Arena) -> None:
    """Make the service's schema."""
    in_loop(migrate(arena.postgres_url, arena.postgres_url, "invitations", MIGRATIONS))


def fill(arena: Arena, codes: int) -> None:
    """Give the sponsor so many codes, in our stock and in the peer's, and take everything else away."""
    arena.clear()
    arena.execute(
        """TRUNCATE invitations.accounts, invitations.opt_outs, invitations.provider_accounts, invitations.outbox,
                    invitations.outbox_sequences, invitations.inbox, peer_codes, peer_invitations
           RESTART IDENTITY CASCADE"""
    )
    arena.with_postgres(lambda conn: conn.execute(_SPONSOR, SPONSOR))
    arena.with_postgres(lambda conn: conn.execute(_STOCK, SPONSOR, TIER, codes))
    arena.execute(
        "INSERT INTO peer_codes (code, sponsor_id, tier) SELECT code, sponsor_id, tier FROM invitations.codes"
    )
    arena.execute("VACUUM ANALYZE invitations.codes, peer_codes")
    arena.execute("CHECKPOINT")


class Provider:
    """A running sandbox that takes messages at once and sends no reports."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._control = f"{self.url}/_sandbox"

    def is_up(self) -> bool:
        """Say whether it answers, and keep it from sending reports."""
        try:
            return httpx.post(f"{self._control}/knobs", json={"reports": False}, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def phones(self) -> dict[str, int]:
        """Count the messages that each phone has got."""
        phones: dict[str, int] = httpx.get(f"{self._control}/phones", trust_env=False).raise_for_status().json()
        return phones


@contextmanager
def provider() -> Iterator[Provider]:
    """Run the sandbox's provider until the block ends."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "sandbox", "provider", "--port", str(port)], cwd=HOME)
    sandbox = Provider(port)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not sandbox.is_up():
            assert process.poll() is None and time.monotonic() < deadline, "the sandbox did not start"  # noqa: PT018
            time.sleep(0.05)
        yield sandbox
    finally:
        process.terminate()
        process.wait(timeout=30)
