"""One deployment of docker-compose.yml with the sandbox, built from this checkout, for all tests of these files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import pytest

from local.compose import Compose
from local.containers import docker, engine_answers
from local.tour.guide import Guide
from local.tour.telling import Printer
from tests.support.stacks import run_dir

TAG: Final = "test"


@pytest.fixture(scope="session")
def compose() -> Compose:
    """Docker with Compose, and the name of the deployment; nothing is built or started yet."""
    if not engine_answers():
        pytest.skip("needs a Docker engine")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("needs Docker Compose")
    return Compose(run_dir("compose"), project="partner-hub-test", tag=TAG)


@pytest.fixture(scope="session")
def images(compose: Compose) -> list[str]:
    """Every image of ours, built."""
    compose.run("build", log=True, seconds=1_800)
    named = compose.run("config", "--images").split()
    return sorted({name for name in named if name.startswith("partner-hub-")})


@pytest.fixture(scope="session")
def guide(compose: Compose) -> Iterator[Guide]:
    """The tour's guide through the running deployment."""
    try:
        leader = Guide(compose.up(), compose, Printer())
        yield leader
        leader.close()
    finally:
        compose.keep_logs()
        compose.down()


@pytest.fixture
def deployment(guide: Guide, compose: Compose) -> Compose:
    """The running deployment."""
    assert guide.stack
    return compose


def inspect(kind: str, name: str) -> dict[str, Any]:
    """Give what Docker knows of an image or a container."""
    found: list[dict[str, Any]] = json.loads(docker(kind, "inspect", name))
    return found[0]
