"""Every command of the runbook is run, and prints what the runbook says."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.referrals.context import Context
from services.referrals.settings import DEVELOPMENT_KEYS
from tests.support.microsoft import SandboxMicrosoft
from tests.support.referrals import a_worker, another_key, connect, plain_cache, rows, run_command
from tests.support.runbooks import assert_printed, sections

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "partner-center-sign-in.md"
PREFIX = "python -m services.referrals "
FOREIGN = {"username": "guest@other.example", "tenant_id": "11111111-2222-4333-8444-555555555555"}
REVOKED = {"identity_faults": [{"endpoint": "token", "grant": "refresh_token", "times": 9}]}


class Situation(NamedTuple):
    """What a section of the runbook presumes."""

    signed_in: bool = False
    idle_days: int = 0
    has_plain_cache: bool = False
    knobs: dict[str, Any] = {}
    environment: dict[str, str] = {}


SITUATIONS = {
    "First time": Situation(),
    "Taking over the older tool's sign-in": Situation(has_plain_cache=True),
    "Is it working?": Situation(signed_in=True),
    "Reset": Situation(signed_in=True),
    "Another key": Situation(
        signed_in=True, environment={"HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS": f"{another_key()},{DEVELOPMENT_KEYS}"}
    ),
    "The key is lost": Situation(signed_in=True, environment={"HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS": another_key()}),
    "Wrong tenant": Situation(knobs={"account": FOREIGN}),
    "Blocked by Conditional Access": Situation(knobs={"conditional_access_block": True, "device_code_expires_in": 2}),
    "Second factor missing": Situation(signed_in=True, knobs={"with_mfa": False}),
    "Revoked": Situation(signed_in=True, knobs={"access_token_expires_in": 100, **REVOKED}),
    "Expiring": Situation(signed_in=True, idle_days=75),
    "Switched off": Situation(environment={"HUNTER_PARTNER_CENTER_ENABLED": "false"}),
}


def test_every_section_with_commands_is_tried() -> None:
    assert sections(RUNBOOK).keys() == SITUATIONS.keys()


@pytest.mark.parametrize("title", SITUATIONS)
async def test_the_commands_of_a_section_print_what_it_says(
    title: str, context: Context, sandbox: SandboxMicrosoft, environment: dict[str, str], tmp_path: Path
) -> None:
    situation = SITUATIONS[title]
    sandbox.turn(auto_approve=True, **situation.knobs)
    if situation.signed_in:
        await connect(context, sandbox)
        await rows(
            context,
            "UPDATE partner_center_connections SET refreshed_at = now() - make_interval(days => $1) RETURNING 1",
            situation.idle_days,
        )
    cache = tmp_path / ".token_cache"
    if situation.has_plain_cache:
        cache.write_text(await plain_cache(context, sandbox))
    own = environment | situation.environment
    steps = sections(RUNBOOK)[title]
    needs_worker = any("--wait" in line for line, _ in steps)
    with a_worker(own, tmp_path / "worker.log") if needs_worker else nullcontext():
        for step in steps:
            line = step[0]
            assert line.startswith(PREFIX), line
            words = line.removeprefix(PREFIX).replace(cache.name, str(cache)).split()
            _, output = await run_command(own, *words)
            assert_printed(step, output.replace(str(cache), cache.name))
