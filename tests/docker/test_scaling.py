"""More workers share the work; who is stopped finishes what it has begun."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local.compose import Compose
from local.containers import docker
from local.tour.guide import Guide
from tests.docker.conftest import inspect
from tests.docker.ledger import Upload

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2_400)]

ROLE = "invitations-worker"
HANDLED = """
import re, urllib.request
text = urllib.request.urlopen("http://127.0.0.1:8000/metrics").read().decode()
handled = re.findall(r'^messages_total\\{outcome="[a-z]+",queue="invitations.chunks"\\} (\\S+)', text, re.M)
print(sum(map(float, handled)))
"""


@pytest.fixture
def three(deployment: Compose) -> Iterator[list[str]]:
    """Three workers of invitations instead of one."""
    deployment.run("up", "--detach", "--no-recreate", "--wait", "--scale", f"{ROLE}=3", log=True, seconds=900)
    yield deployment.run("ps", "--quiet", ROLE).split()
    deployment.run("up", "--detach", "--no-recreate", "--wait", "--scale", f"{ROLE}=1", log=True, seconds=900)


def test_three_workers_share_the_work_and_do_nothing_twice(guide: Guide, deployment: Compose, three: list[str]) -> None:
    assert len(three) == 3
    queues = deployment.run(
        "exec", "-T", "rabbitmq", *["rabbitmqctl", "-q", "list_queues", "name", "consumers", "--formatter=json"]
    )
    consumers = {queue["name"]: queue["consumers"] for queue in json.loads(queues)}
    assert consumers["invitations.chunks"] == consumers["invitations.events"] == 3
    upload = Upload.accept(guide, deployment, 1_500, first=5_000_000)
    upload.check()
    handled = [float(docker("exec", container, "python", "-c", HANDLED)) for container in three]
    assert all(number > 0 for number in handled), handled


def test_a_worker_that_is_stopped_in_the_middle_ends_in_good_order(
    guide: Guide, deployment: Compose, three: list[str]
) -> None:
    upload = Upload.accept(guide, deployment, 600, first=5_500_000)
    upload.wait_until_begun()
    docker("stop", three[0], timeout=90)
    state = inspect("container", three[0])["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False), "ended by itself within its time, not killed"
    upload.check()
