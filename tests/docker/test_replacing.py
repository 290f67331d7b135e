"""A service is rebuilt and replaced while it is in use, and nobody at the gateway notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from local.accounts import SPONSOR_ID
from local.client import Client
from local.compose import Compose
from local.supervisor import HOME
from local.tour.guide import Guide
from tests.docker.conftest import inspect
from tests.docker.ledger import NEW_CODES, Upload

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2_400)]

SERVICE: Final = "invitations"
STOCK: Final = "/api/Sponsorship/codes"
PAUSE_SECONDS: Final = 0.25  # below the gateway's limit of calls per account
SEEN: Final = "import services.invitations; print(services.invitations.PLANTED)"


@dataclass
class Load:
    """What clients of the gateway are answered, all the time."""

    statuses: Counter[str] = field(default_factory=Counter)
    added: int = 0

    @contextmanager
    def running(self, guide: Guide) -> Iterator[None]:
        """Call until the block ends."""
        over = threading.Event()
        callers = [threading.Thread(target=self._call, args=(guide, name, over)) for name in ("admin", "sponsor") * 2]
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            over.set()
            for caller in callers:
                caller.join()

    def _call(self, guide: Guide, name: str, over: threading.Event) -> None:
        account = guide.stack["accounts"][name]
        with Client(guide.stack["gateway_url"]).sign_in(account["email"], account["password"]) as client:
            while not over.is_set():
                if name == "sponsor":
                    answer = client.call("GET", STOCK)
                else:
                    answer = client.call("POST", NEW_CODES, json={"sponsorId": SPONSOR_ID, "tier": "XL", "count": 1})
                    self.added += answer.is_success
                self.statuses[f"{answer.request.method} {answer.status_code}"] += 1
                time.sleep(PAUSE_SECONDS)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A checkout with a newer version of the service."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in (
        ".dockerignore",
        "Dockerfile",
        "docker-compose.yml",
        "deploy",
        "requirements",
        "sandbox",
        "services",
        "shared",
    ):
        source = HOME / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, checkout / name)
    with (checkout / "services" / SERVICE / "__init__.py").open("a") as file:
        file.write('\nPLANTED = "a newer version"\n')
    return checkout


def replace(deployment: Compose, checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [str(checkout / "deploy" / "docker" / "replace"), SERVICE]
    environment = os.environ | deployment.environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1_200)


def image_of(deployment: Compose, role: str) -> set[str]:
    return {str(inspect("container", each)["Image"]) for each in deployment.run("ps", "--quiet", role).split()}


def test_a_service_is_replaced_under_load_without_an_error_at_the_gateway(
    guide: Guide, deployment: Compose, newer: Path
) -> None:
    for name in ("admin", "sponsor"):
        guide.forget(name)
    roles = [f"{SERVICE}-api", f"{SERVICE}-worker"]
    before = {role: image_of(deployment, role) for role in roles}
    codes = guide.stock("available")["XL"]
    load = Load()
    with load.running(guide):
        upload = Upload.accept(guide, deployment, 600, first=6_000_000)
        done = replace(deployment, newer)
        time.sleep(2)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert set(load.statuses) == {"GET 200", "POST 201"}, load.statuses
    assert min(load.statuses.values()) > 50
    upload.check()
    assert guide.stock("available")["XL"] == codes + load.added
    for role in roles:
        assert len(image_of(deployment, role)) == 1
        assert not image_of(deployment, role) & before[role]
        assert deployment.run("exec", "-T", role, "python", "-c", SEEN).strip() == "a newer version"


def test_a_version_that_does_not_start_is_taken_back_and_the_old_one_goes_on(
    guide: Guide, deployment: Compose, newer: Path
) -> None:
    role = f"{SERVICE}-api"
    before = image_of(deployment, role)
    with (newer / "services" / SERVICE / "app.py").open("a") as file:
        file.write("\n\ndef create_app(_):\n    raise RuntimeError('a version that cannot start')\n")
    done = replace(deployment, newer)
    assert done.returncode == 1
    assert "did not become healthy" in done.stderr
    assert "a version that cannot start" in done.stdout + done.stderr
    assert image_of(deployment, role) == before
    assert len(deployment.run("ps", "--all", "--quiet", role).split()) == 1
    guide.forget("sponsor")
    assert guide.caller("sponsor").call("GET", STOCK).status_code == 200
