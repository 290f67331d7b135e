"""A private PostgreSQL: own data folder, own port, own password; never the machine's own instance."""

from __future__ import annotations

import locale
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from local import records
from local.errors import LocalError
from local.processes import (
    ProcessId,
    answers,
    eventually,
    free_port,
    identity,
    spawn,
    tail,
)
from local.sql import query, serves

OWNER = DATABASE = "partner_hub"
NEEDED = ("postgres", "initdb")
START_SECONDS = 60
# 300: five services with two roles and a pool of ten each, and the tests beside them.
SETTINGS = {"max_connections": "300", "timezone": "UTC"}
# Without fsync the data may be lost with the machine, but not with the server: what it confirmed is in the system's
# cache. synchronous_commit stays on, because a killed server would lose what it had confirmed, and tests kill it.
UNSAFE_FAST = {"fsync": "off", "full_page_writes": "off"}


def settings(*, unsafe_fast: bool, **more: str) -> list[str]:
    """Give the options of the server's command line."""
    chosen = SETTINGS | (UNSAFE_FAST if unsafe_fast else {}) | more
    return [text for name, value in chosen.items() for text in ("-c", f"{name}={value}")]


def find_binaries() -> Path | None:
    """Find the folder of a complete PostgreSQL server on this machine; the newest where there are several."""
    on_path = shutil.which("postgres")
    packaged = sorted(
        (path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()),
        key=lambda path: int(path.parent.name),
        reverse=True,
    )
    found = [Path(on_path).resolve().parent, *packaged] if on_path else packaged
    return next((path for path in found if all((path / name).is_file() for name in NEEDED)), None)


@dataclass
class PrivatePostgres:
    """One PostgreSQL of ours, found again by its record in the run directory."""

    kind: ClassVar = "private"

    run_dir: Path
    binaries: Path
    data: Path
    user: str | None
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=records.password)
    unsafe_fast: bool = False
    process: ProcessId | None = None

    @classmethod
    def create(cls, run_dir: Path, binaries: Path, *, unsafe_fast: bool) -> PrivatePostgres:
        """Make an empty database cluster and start it, without waiting."""
        user = _unprivileged_user()
        server = cls(run_dir, binaries, _data_folder(run_dir, user), user, unsafe_fast=unsafe_fast)
        server._save()  # before the work, so that what is left by a crash in the middle is found and removed
        server._initialise()
        server.launch()
        return server

    @classmethod
    def load(cls, run_dir: Path) -> PrivatePostgres | None:
        """Find the server that this run directory remembers."""
        record = records.load(run_dir / "postgres.json")
        if record is None or record.pop("kind") != cls.kind:
            return None
        for name in ("run_dir", "binaries", "data"):
            record[name] = Path(record[name])
        record["process"] = ProcessId(**record["process"]) if record["process"] else None
        return cls(**record)

    @property
    def url(self) -> str:
        """Where its owner signs in."""
        return f"postgresql://{OWNER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def _maintenance_url(self) -> str:
        return self.url.removesuffix(DATABASE) + "postgres"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.run_dir / "logs" / "postgres.log"

    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.is_alive()

    def launch(self) -> None:
        """Start it without waiting."""
        address = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options = settings(unsafe_fast=self.unsafe_fast, **address)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(self.binaries / "postgres"), "-D", str(self.data), *options]
        self.process = spawn(command, log=self.log, user=self.user, folder=Path("/"))
        self._save()

    def wait_until_ready(self) -> None:
        """Wait until it serves the database of the system, and make that database if it is new."""
        # A server that was killed leaves children behind for a moment, and a new one refuses to start beside them.
        if not eventually(self._ready_or_relaunched, START_SECONDS):
            raise LocalError(f"PostgreSQL did not start; the end of {self.log}:\n{tail(self.log)}")
        exists = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"  # noqa: S608 - a constant
        if not query(self._maintenance_url, exists):
            query(self._maintenance_url, f"CREATE DATABASE {DATABASE}")

    def start(self) -> None:
        """Start it again where it was, and wait until it serves."""
        if not self.is_running():
            self.launch()
        self.wait_until_ready()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process:
            self.process.end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order; open connections are cut."""
        if self.process:
            self.process.end(signal.SIGINT)  # PostgreSQL's "fast shutdown"

    def restart(self) -> None:
        """Stop it in good order and start it again."""
        self.stop()
        self.start()

    def destroy(self) -> None:
        """End it and remove its data."""
        if self.process:
            self.process.end(signal.SIGQUIT)  # "immediate shutdown": the data goes anyway
        shutil.rmtree(self.data.parent, ignore_errors=True)
        (self.run_dir / "postgres.json").unlink(missing_ok=True)

    def _ready_or_relaunched(self) -> bool:
        if not self.is_running():
            if "already in use" in tail(self.log, 10) and answers(self.port):
                self.port = free_port()
            self.launch()
            return False
        return serves(self._maintenance_url)

    def _initialise(self) -> None:
        options = ["--username", OWNER, "--encoding=UTF8", "--locale", _locale(), "--auth=scram-sha-256", "--no-sync"]
        secret = self.data.with_name("password")
        records.write_private(secret, self.password)
        if self.user:
            shutil.chown(secret, self.user)
        done = subprocess.run(
            [str(self.binaries / "initdb"), "-D", str(self.data), *options, "--pwfile", str(secret)],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **identity(self.user),
        )
        secret.unlink()
        if done.returncode:
            raise LocalError(f"PostgreSQL's initdb failed: {done.stderr.strip()}")

    def _save(self) -> None:
        record: dict[str, Any] = asdict(self) | {"kind": self.kind}
        record |= {name: str(record[name]) for name in ("run_dir", "binaries", "data")}
        records.save(self.run_dir / "postgres.json", record)


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), "nobody")


def _data_folder(run_dir: Path, user: str | None) -> Path:
    """Choose a folder that the server's user can reach: a checkout below root's home usually is not."""
    home = run_dir / "postgres"
    shutil.rmtree(home, ignore_errors=True)
    if user and not _can_enter(run_dir, user):
        home = Path(tempfile.mkdtemp(prefix="partner-hub-postgres-"))
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user:
        shutil.chown(home, user)
    return home / "data"


def _can_enter(folder: Path, user: str) -> bool:
    attempt = subprocess.run(
        ["/bin/sh", "-c", 'cd "$0"', str(folder)], cwd="/", stderr=subprocess.DEVNULL, check=False, **identity(user)
    )
    return attempt.returncode == 0


def _locale() -> str:
    """Turkish letters need Unicode's case rules; a system without this locale gets by with those of ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return "C.UTF-8"
