"""The requirement files fit pyproject.toml, and give away nothing of where they were made."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from local.lock import IMAGES, selections, stale

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9._-]+(?:\[[a-z,]+\])?)==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text()))


def test_every_file_was_made_from_the_dependencies_of_today() -> None:
    assert stale(ROOT) == []


def test_a_changed_dependency_makes_every_file_stale(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    project = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(project.replace('"fastapi>=', '"fastapi>=0.1,>='))
    assert stale(tmp_path) == [f"{name}.txt" for name in selections()]


def test_files_name_packages_with_hashes_and_no_address_or_folder() -> None:
    assert [file.stem for file in FILES] == sorted(selections())
    for file in FILES:
        entries = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        wrong = [
            line
            for line in entries
            if not re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==|    --hash=sha256:[0-9a-f]{64}", line)
        ]
        assert not wrong, file.name


def test_a_service_gets_its_own_dependencies_and_no_others() -> None:
    assert "msal" in pins("referrals")
    assert not any("msal" in pins(name) for name in IMAGES if name != "referrals")
    assert "asyncpg" not in pins("gateway")
    assert "pytest" not in {package for name in IMAGES for package in pins(name)}


def test_one_package_has_one_version_everywhere() -> None:
    newest = pins("bench")
    for name in selections():
        assert pins(name).items() <= newest.items(), name
