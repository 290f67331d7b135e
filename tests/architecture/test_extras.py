"""A service's image holds its own packages and nothing else; so a service must not load anything besides."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/__main__.py"))
_LOADED = """
import importlib.metadata, sys
import services.{service}.__main__
for role in ("app", "worker"):
    try:
        __import__("services.{service}." + role)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("services."):
            raise
import orjson
owners = importlib.metadata.packages_distributions()
tops = {{name.partition(".")[0] for name in sys.modules}}
print(orjson.dumps(sorted({{owner for top in tops for owner in owners.get(top, [])}})).decode())
"""
# FastAPI looks whether the first is there and does without; the others start themselves with every virtual environment.
_OPTIONAL = {"python-multipart", "pip", "setuptools"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_loads_only_packages_that_its_requirement_file_pins(service: str) -> None:
    pinned = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / f"{service}.txt").read_text(), re.MULTILINE)
    command = [sys.executable, "-c", _LOADED.format(service=service)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {re.sub(r"[-_.]+", "-", name).lower() for name in orjson.loads(answer.stdout)}

    assert loaded - set(pinned) - _OPTIONAL == set()
    assert "fastapi" in loaded
