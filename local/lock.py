"""Pins every package with its hashes: one requirement file per image, one for development, one for the benchmarks."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

from local.progress import say, step

HOME = Path(__file__).resolve().parent.parent
# One image each; Dockerfile.
IMAGES = ("auth", "referrals", "invitations", "audit", "gateway", "setup", "sandbox")
OPTIONS = ["--universal", "--python-version=3.11", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
# Where the packages come from is the installing machine's business, and none of ours to publish.
OPTIONS += ["--no-emit-index-url", "--no-emit-find-links"]


def selections() -> dict[str, list[str]]:
    """Say what each file holds. The largest comes first: the others take their versions from it."""
    everything = ["--all-extras", "--group=dev"]
    per_image = {name: [f"--extra={name}"] for name in IMAGES}
    return {"bench": [*everything, "--group=bench"], "dev": everything, **per_image}


def first_line(home: Path) -> str:
    """Write the line that ties a file to the dependencies it was made from."""
    project = tomllib.loads((home / "pyproject.toml").read_text())
    sections = [
        project["project"]["requires-python"],
        project["project"]["dependencies"],
        project["project"]["optional-dependencies"],
        project["dependency-groups"],
    ]
    digest = hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()
    return f"# Made by `make lock` from pyproject.toml; its dependencies have the SHA-256 {digest}\n"


def write(home: Path) -> None:
    """Resolve all files anew; versions that still fit are kept."""
    folder = home / "requirements"
    folder.mkdir(exist_ok=True)
    for name, choice in selections().items():
        target = folder / f"{name}.txt"
        constraint = [] if name == "bench" else ["--constraints=requirements/bench.txt"]
        uv = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml"]
        with step(f"Locking requirements/{name}.txt"):
            subprocess.run(
                [*uv, *OPTIONS, *choice, *constraint, f"--output-file=requirements/{name}.txt"], cwd=home, check=True
            )
        target.write_text(first_line(home) + target.read_text())


def stale(home: Path) -> list[str]:
    """Name the files that were not made from the dependencies of today."""
    wanted = first_line(home)
    files = [home / "requirements" / f"{name}.txt" for name in selections()]
    return [file.name for file in files if not file.is_file() or not file.read_text().startswith(wanted)]


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if old := stale(HOME):
            sys.exit(f"Not made from today's pyproject.toml: {', '.join(old)}. Run: make lock")
        say("The requirement files fit pyproject.toml.")
    else:
        write(HOME)
