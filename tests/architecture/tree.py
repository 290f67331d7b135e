"""The source tree as the architecture tests see it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import services

ROOT = Path(__file__).parents[2]
SERVICES = tuple(sorted(folder.name for folder in (ROOT / "services").iterdir() if (folder / "__init__.py").exists()))


def files_of_the_repository() -> list[Path]:
    """List what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [path for name in sorted(set(listed.split("\0"))) if name and (path := ROOT / name).is_file()]


def texts() -> Iterator[tuple[Path, str]]:
    """Read every file of the repository that is text."""
    for path in files_of_the_repository():
        try:
            yield path.relative_to(ROOT), path.read_text()
        except UnicodeDecodeError:
            continue


def python_files(*folders: str) -> list[Path]:
    """List the modules below some folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def parsed(*folders: str) -> list[tuple[Path, ast.Module]]:
    """Read the modules below some folders as syntax trees."""
    return [(path.relative_to(ROOT), ast.parse(path.read_text())) for path in python_files(*folders)]


def modules_of_services() -> list[ModuleType]:
    """Import every module of every service but the programs themselves."""
    names = [module.name for module in pkgutil.walk_packages(services.__path__, "services.")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]  # noqa: TID251  any module
