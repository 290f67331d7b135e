"""Builds the images of docker-compose.yml and tells how large they are: each, and all of them on one disk."""

from __future__ import annotations

import re
import sys
from typing import Final

from local.compose import Compose
from local.containers import docker
from local.errors import LocalError
from local.progress import say, step
from local.supervisor import HOME

OURS: Final = "partner-hub-"
MEGABYTE: Final = 1_000_000


def sizes(names: list[str]) -> dict[str, int]:
    """Give the size of each image in bytes, all of its layers together."""
    return {name: int(docker("image", "inspect", "--format", "{{.Size}}", name)) for name in names}


def base_image() -> str:
    """Name what every image of ours stands on."""
    found = re.search(r"^ARG PYTHON=(\S+)$", (HOME / "Dockerfile").read_text(), re.MULTILINE)
    if found is None:
        raise LocalError("The Dockerfile names no Python to stand on.")
    return found[1]


def main() -> None:
    """Build, and print the table."""
    compose = Compose(HOME / ".run" / "images", project="partner-hub-images")
    with step("Building the images"):
        compose.run("build", log=True)
    ours = sizes(sorted({name for name in compose.run("config", "--images").split() if name.startswith(OURS)}))
    base = sizes([base_image()])[base_image()]
    say(f"\n{'image':<34}{'MB':>8}{'own MB':>8}")
    say(f"{base_image():<34}{base / MEGABYTE:>8.1f}")
    for name, size in ours.items():
        say(f"{name:<34}{size / MEGABYTE:>8.1f}{(size - base) / MEGABYTE:>8.1f}")
    total = base + sum(size - base for size in ours.values())
    say(f"{'all of them, the base counted once':<34}{total / MEGABYTE:>8.1f}")


if __name__ == "__main__":
    try:
        main()
    except LocalError as error:
        sys.exit(str(error))
