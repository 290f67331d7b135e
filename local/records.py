"""Small private files of the run directory: what was started, with which password."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; readers see the old text or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def save(path: Path, record: dict[str, Any]) -> None:
    """Remember something for the next process that works with this run directory."""
    write_private(path, json.dumps(record, indent=2) + "\n")


def load(path: Path) -> dict[str, Any] | None:
    """Recall what was remembered, or nothing."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


def password() -> str:
    """Make a random password that needs no escaping in a URL, a shell or a configuration file."""
    return secrets.token_hex(20)
