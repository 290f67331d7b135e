"""Stops whatever this checkout has running and removes what it made. Only Python's own library is used here."""

import shutil
import sys
from pathlib import Path

from local import infrastructure
from local.errors import LocalError
from local.progress import say, step
from local.supervisor import stop_roles

HOME = Path(__file__).resolve().parent.parent


def clean(home: Path) -> None:
    """Stop every run of this checkout, then remove .run and the virtual environments."""
    for run_dir in sorted(path for path in (home / ".run").glob("*/") if path.is_dir() and not path.is_symlink()):
        with step(f"Stopping {run_dir.name}"):
            stop_roles(run_dir)
            infrastructure.stop(run_dir)
    for folder in [home / ".run", *home.glob(".venv*")]:
        shutil.rmtree(folder, ignore_errors=True)
    say("Removed .run and .venv; the checkout is as it was cloned.")


if __name__ == "__main__":
    try:
        clean(HOME)
    except LocalError as error:
        sys.exit(str(error))
