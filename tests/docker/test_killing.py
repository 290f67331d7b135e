"""Containers are killed in the middle of work: they come back, and what was accepted happens once."""

from __future__ import annotations

from itertools import count
from typing import Final

import pytest

from local.compose import Compose
from local.tour.guide import Guide
from tests.docker.compose_file import roles
from tests.docker.ledger import PATIENCE_SECONDS, Upload, is_healthy

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2_400)]

EVERYBODY: Final = [*roles(), "postgres", "rabbitmq"]
ROWS: Final = 300
firsts = count(3_000_000, 1_000)


@pytest.mark.parametrize("role", EVERYBODY)
def test_a_container_that_crashes_comes_back_by_itself_and_nothing_is_lost_or_doubled(
    guide: Guide, deployment: Compose, role: str
) -> None:
    upload = Upload.accept(guide, deployment, ROWS, first=next(firsts))
    upload.wait_until_begun()
    life = deployment.life_of(role)
    deployment.kill(role)
    guide.wait_for(f"another life of {role}", lambda: deployment.life_of(role) not in {life, None}, PATIENCE_SECONDS)
    guide.wait_for(
        "everybody's health", lambda: all(is_healthy(deployment, name) for name in EVERYBODY), PATIENCE_SECONDS
    )
    upload.check()


def test_after_docker_compose_kill_of_one_after_the_other_up_brings_all_back(guide: Guide, deployment: Compose) -> None:
    """What Docker is told to kill it takes for stopped; so it is the operator who brings it back."""
    upload = Upload.accept(guide, deployment, ROWS, first=next(firsts))
    upload.wait_until_begun()
    for role in EVERYBODY:
        deployment.run("kill", "--signal=KILL", role)
        assert deployment.life_of(role) is None
    deployment.run("up", "--detach", "--wait", log=True, seconds=900)
    upload.check()


def test_the_audit_log_is_whole_after_all_that(guide: Guide, deployment: Compose) -> None:
    guide.forget("auditor")
    said = deployment.run("exec", "-T", "audit-worker", "python", "-m", "services.audit", "verify", seconds=600)
    assert said.splitlines()[-1].startswith("OK: ")
    found = guide.call(guide.caller("auditor"), "GET", "/api/v1/audit/events", params={"limit": 1})
    assert found.is_success
