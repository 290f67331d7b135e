"""docker-compose.yml as data, with the anchors resolved."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, Final

import yaml

from local.supervisor import HOME

STORING: Final = ("auth", "referrals", "invitations", "audit")


@cache
def compose_file() -> dict[str, Any]:
    """Read the file."""
    parsed: dict[str, Any] = yaml.safe_load((HOME / "docker-compose.yml").read_text())
    return parsed


def blocks(*, sandbox: bool = False) -> dict[str, dict[str, Any]]:
    """Give the block of each container, those of the sandbox if asked for."""
    services: dict[str, dict[str, Any]] = compose_file()["services"]
    return {name: block for name, block in services.items() if sandbox or "profiles" not in block}


def roles() -> dict[str, dict[str, Any]]:
    """Give the blocks of the roles that serve."""
    return {name: block for name, block in blocks().items() if is_ours(block) and runs(block)}


def runs(block: dict[str, Any]) -> bool:
    """Tell whether a container runs until it is stopped."""
    return bool(block["restart"] != "no")


def is_ours(block: dict[str, Any]) -> bool:
    """Tell whether a container runs an image of ours."""
    return str(block["image"]).startswith("partner-hub-")


def service_of(block: dict[str, Any]) -> str:
    """Name the service whose image a container runs."""
    return str(block["image"]).removeprefix("partner-hub-").partition(":")[0]


def reachable() -> set[tuple[str, str]]:
    """Say who can open a connection to whom: those that share a network."""
    running = {name: set(block["networks"]) for name, block in blocks().items() if runs(block)}
    return {(one, other) for one, other in product(running, running) if one != other and running[one] & running[other]}
