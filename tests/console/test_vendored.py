"""What is not ours is exactly what its makers published, with its licence."""

from __future__ import annotations

import hashlib
import tomllib
from typing import Any

import pytest

from services.gateway.context import PAGES

STATIC = PAGES / "static"
VENDORED: dict[str, dict[str, Any]] = tomllib.loads((STATIC / "vendored.toml").read_text())


@pytest.mark.parametrize("name", VENDORED)
def test_a_vendored_file_is_the_one_that_was_published(name: str) -> None:
    entry = VENDORED[name]
    assert hashlib.sha256((STATIC / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert (STATIC / entry["licence_file"]).read_text().strip()
    assert entry["licence"] == "0BSD"


def test_every_minified_file_is_listed() -> None:
    assert {path.name for path in STATIC.glob("*.min.js")} == {entry["file"] for entry in VENDORED.values()}
