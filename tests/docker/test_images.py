"""What the images hold: their own service and its packages, a user that is not root, and no secret."""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Any, Final

import pytest

from local.containers import docker
from local.lock import IMAGES
from local.supervisor import HOME
from tests.docker.conftest import TAG, inspect

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2_400)]

CODE: Final = {"sandbox": "sandbox", "setup": "deploy/docker"}
CONTENT: Final = """
import importlib.metadata, json, os, pathlib, sys
files = [str(path.relative_to("/app")) for path in pathlib.Path("/app").rglob("*") if path.is_file()]
packages = sorted({each.metadata["Name"] for each in importlib.metadata.distributions(path=[sys.path[-1]])})
ours = [path for top in ("/app", "/venv") for path in pathlib.Path(top).rglob("*") if not path.is_symlink()]
writable = [str(path) for path in ours if os.access(path, os.W_OK)]
print(json.dumps({"files": files, "packages": packages, "uid": os.getuid(), "writable": writable[:5]}))
"""


@pytest.fixture(scope="module", params=IMAGES)
def image(request: pytest.FixtureRequest, images: list[str]) -> str:
    name = f"partner-hub-{request.param}:{TAG}"
    assert name in images
    return name


@pytest.fixture(scope="module")
def content(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("run", "--rm", "--entrypoint=python", image, "-c", CONTENT))
    return found


def of(image: str) -> str:
    return image.removeprefix("partner-hub-").removesuffix(f":{TAG}")


def test_an_image_holds_the_code_of_its_own_service_and_what_is_shared(image: str, content: dict[str, Any]) -> None:
    code = CODE.get(of(image), f"services/{of(image)}")
    wanted = {
        str(path.relative_to(HOME))
        for folder in (HOME / code, HOME / "shared")
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in content["files"] if "__pycache__" not in PurePath(name).parts}
    assert held == wanted


def test_an_image_holds_the_packages_that_its_requirement_file_pins(image: str, content: dict[str, Any]) -> None:
    lock = (HOME / "requirements" / f"{of(image)}.txt").read_text()
    # A marker may leave one out on this system.
    pinned = {name: bool(marker) for name, marker in re.findall(r"^([a-z0-9._-]+)==\S+( ;)?", lock, re.MULTILINE)}
    held = {re.sub(r"[-_.]+", "-", name).lower() for name in content["packages"]}
    assert held - set(pinned) == set()
    assert {name for name, is_conditional in pinned.items() if not is_conditional} - held == set()


def test_what_an_image_runs_is_no_root_and_can_change_nothing(image: str, content: dict[str, Any]) -> None:
    configuration = inspect("image", image)["Config"]
    assert configuration["User"] == "10001:10001"
    assert content["uid"] == 10001
    assert content["writable"] == []


def test_an_image_says_how_it_is_and_hears_when_it_is_to_stop(image: str) -> None:
    configuration = inspect("image", image)["Config"]
    assert configuration["Healthcheck"]["Test"] == ["CMD", "python", "-m", "shared.probe"]
    assert configuration["StopSignal"] == "SIGTERM"
    assert configuration["Entrypoint"] == ["python", "-m"], "no shell between Docker and the process"
    assert configuration["Cmd"] is None


def test_an_image_tells_no_secret_and_no_address_of_the_building_machine(image: str) -> None:
    configuration = inspect("image", image)["Config"] | {"Labels": None}  # where Compose notes who built it
    told = docker("history", "--no-trunc", image) + json.dumps(configuration)
    assert not re.search(r"PASSWORD|SECRET|TOKEN|_KEYS|://", told, re.IGNORECASE)


def test_images_of_the_compose_file_are_those_of_the_lock_files(images: list[str]) -> None:
    assert images == sorted(f"partner-hub-{name}:{TAG}" for name in IMAGES)


@pytest.mark.parametrize("service", ["auth", "referrals", "invitations", "audit"])
def test_a_migrate_step_with_nothing_to_go_by_says_what_it_needs(images: list[str], service: str) -> None:
    assert images
    with pytest.raises(Exception, match="Set OWNER_DATABASE_URL to a Postgres user"):
        docker("run", "--rm", f"partner-hub-{service}:{TAG}", f"services.{service}", "migrate")
