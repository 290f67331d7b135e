"""Makes the virtual environment: all that `make` needs before anything else. Only Python's own library is used here."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.errors import LocalError
from local.progress import say, step

HOME = Path(__file__).resolve().parent.parent


def prepare(home: Path, name: str = "dev") -> Path:
    """Bring the environment of a checkout up to its locked requirements; tells where its Python is."""
    environment = home / (".venv" if name == "dev" else f".venv-{name}")
    requirements = home / "requirements" / f"{name}.txt"
    with _alone(home):
        python = environment / "bin" / "python"
        if not _works(python):
            _create(environment)
        stamp = environment / f"{name}.installed"
        wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(python, requirements, environment / "install.log")
            stamp.write_text(wanted)
    return python


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Two commands started together must not install into one environment."""
    run = home / ".run"
    run.mkdir(exist_ok=True)
    with (run / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _works(python: Path) -> bool:
    """Whether the environment is there and its Python has not been removed or replaced by an older one."""
    question = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return python.exists() and subprocess.run([python, "-c", question], check=False).returncode == 0


def _create(environment: Path) -> None:
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian packs it apart from Python; only its presence matters
        import venv  # noqa: PLC0415
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise LocalError(
            f"{sys.executable} cannot make virtual environments ({error}): "
            f"install python{version}-venv (Debian, Ubuntu), or choose another with make PYTHON=/path/to/python3"
        ) from error
    with step(f"Creating {environment.name} with Python {sys.version.split()[0]}"):
        shutil.rmtree(environment, ignore_errors=True)
        venv.create(environment, with_pip=True)


def _install(python: Path, requirements: Path, log: Path) -> None:
    total = sum("==" in line for line in requirements.read_text().splitlines())
    # Without looking at dependencies: the file holds them all, each with its hashes.
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--no-deps",
        "--progress-bar=off",
        "-r",
        requirements,
    ]
    with (
        step(f"Installing {total} packages from {requirements.parent.name}/{requirements.name}") as note,
        log.open("w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip,
    ):
        seen = 0
        for line in pip.stdout or ():
            file.write(line)
            seen += line.startswith(("Collecting", "Requirement already"))
            note(f"{seen} of {total}")
        if pip.wait():
            file.flush()
            end = "\n".join(log.read_text().splitlines()[-12:])
            raise LocalError(f"pip could not install the packages; the end of {log}:\n{end}")


if __name__ == "__main__":
    try:
        prepare(HOME, *sys.argv[1:])
    except LocalError as error:
        say(str(error))
        sys.exit(1)
