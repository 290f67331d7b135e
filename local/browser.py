"""A browser for the tests of the console: the one that is named, one of this machine, or the distribution's package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from local import packages
from local.errors import LocalError

VARIABLE: Final = "CHROMIUM"
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# Without any font, a page is a page of boxes.
PACKAGES: Final = ["chromium", "fonts-dejavu-core"]
MISSING: Final = (
    f"No Chromium on this machine, and its package can't be installed here: install it, or name one with {VARIABLE}=…"
)
_SECONDS: Final = 30


def find() -> Path | None:
    """Find a Chromium that runs; Ubuntu's package of this name is only a word to install it in another way."""
    named = os.environ.get(VARIABLE)
    for program in [named] if named else PROGRAMS:
        path = shutil.which(program)
        if path and _runs(path):
            return Path(path)
    return None


def obtain() -> Path:
    """Give a Chromium, installed after saying so where that is possible; raises LocalError."""
    if found := find():
        return found
    if os.environ.get(VARIABLE):
        raise LocalError(f"{VARIABLE}={os.environ[VARIABLE]} is no Chromium that runs.")
    if packages.can_install():
        packages.install(PACKAGES)
        if found := find():
            return found
    raise LocalError(MISSING)


def _runs(path: str) -> bool:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "Chrom" in answer.stdout
