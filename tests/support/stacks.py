"""Where the servers and systems of a test run live, so that runs and workers side by side keep apart."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_dir(name: str = "") -> Path:
    """Give the folder of this worker's servers, or of a system with a name; TEST_STACK keeps two runs apart."""
    parts = [os.environ.get("TEST_STACK", "test"), os.environ.get("PYTEST_XDIST_WORKER", ""), name]
    return ROOT / ".run" / "-".join(part for part in parts if part)
