"""The virtual environment is made once, and brought up to date only when the locked requirements change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.bootstrap import prepare
from local.errors import LocalError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "requirements").mkdir()
    return folder


@pytest.fixture
def checkout(made: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (made / "requirements" / "dev.txt").write_text("# nothing\n")
    prepare(made)  # takes long only the first time
    capsys.readouterr()
    return made


def make(folder: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("make")
    assert tool
    shutil.copy(ROOT / "Makefile", folder)
    return subprocess.run(
        [tool, *arguments], cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=False
    )


def test_the_environment_is_installed_again_only_when_the_requirements_change(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = prepare(checkout)
    assert capsys.readouterr().out == ""
    subprocess.run([python, "-c", "import sys; assert sys.prefix != sys.base_prefix"], check=True)

    (checkout / "requirements" / "dev.txt").write_text("# changed\n")
    prepare(checkout)
    assert "Installing 0 packages" in capsys.readouterr().out


def test_a_package_whose_hash_differs_is_refused_and_tried_again_next_time(checkout: Path) -> None:
    forged = "six==1.17.0 --hash=sha256:" + "0" * 64
    (checkout / "requirements" / "dev.txt").write_text(forged + "\n")
    for _ in range(2):
        with pytest.raises(LocalError, match="pip could not install"):
            prepare(checkout)


def test_an_environment_that_lost_its_python_is_made_anew(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / ".venv" / "bin" / "python").unlink()
    assert prepare(checkout).exists()
    assert "Creating .venv" in capsys.readouterr().out


def test_a_machine_without_python_hears_what_is_missing_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "awk", "sed"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    done = make(tmp_path, "setup", path=str(tmp_path / "bin"))
    assert done.returncode
    assert done.stderr.splitlines()[0] == (
        "Partner Hub needs Python 3.11 or newer, and found none: "
        "install it, or say where it is with make PYTHON=/path/to/python3"
    )


def test_a_python_that_is_too_old_is_named_with_the_way_out(tmp_path: Path) -> None:
    old = tmp_path / "oldpython"
    older = 'import sys; sys.version_info = (3, 8, 20, "final", 0); exec(sys.argv[1])'
    version = '[ "$1" = --version ] && echo "Python 3.8.20" && exit 0'
    old.write_text(f"#!/bin/sh\n{version}\nexec {sys.executable} -c '{older}' \"$2\"\n")
    old.chmod(0o755)
    done = make(tmp_path, "setup", f"PYTHON={old}", path="/usr/bin:/bin")
    assert done.returncode
    assert f"{old} is Python 3.8.20: choose another" in done.stderr.splitlines()[0]


def test_make_alone_lists_every_command_that_a_newcomer_needs(tmp_path: Path) -> None:
    done = make(tmp_path, path=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert {"demo", "up", "down", "test", "check", "bench", "bench-<row>", "lock", "clean", "help"} <= set(listed)
