"""A private RabbitMQ: own node name, ports, cookie, data and port mapper; never the machine's own instance."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from local import records
from local.errors import LocalError
from local.processes import ProcessId, answers, eventually, free_port, spawn, tail

USER = "partner_hub"
START_SECONDS = 90
CONFIGURATION = """\
listeners.tcp.local = 127.0.0.1:{amqp_port}
default_user = {user}
default_pass = {password}
default_user_tags.administrator = true
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
log.console = true
log.console.level = info
log.file = false
# The default write-ahead log of 512 MiB wants three to four times that in memory.
raft.wal_max_size_bytes = 67108864
# The default of 50 MB lets a broker run into a full disk.
disk_free_limit.absolute = 200MB
"""


@dataclass(frozen=True)
class Binaries:
    """Where an installed RabbitMQ and its Erlang are."""

    server: Path
    control: Path
    epmd: Path
    has_management: bool


def find_binaries() -> Binaries | None:
    """Find a complete RabbitMQ on this machine."""
    # Debian's wrappers in /usr/sbin switch the user and set HOME; what they wrap is in /usr/lib/rabbitmq/bin.
    packaged = [Path("/usr/lib/rabbitmq/bin"), *sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))]
    on_path = shutil.which("rabbitmq-server")
    folders = [*packaged, Path(on_path).resolve().parent] if on_path else packaged
    home = next((path for path in folders if (path / "rabbitmq-server").exists()), None)
    mappers = [shutil.which("epmd"), *sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))]
    mapper = next((Path(path) for path in mappers if path), None)
    if home is None or mapper is None:
        return None
    plugins = (home / "rabbitmq-server").resolve().parent.parent / "plugins"
    return Binaries(
        server=home / "rabbitmq-server",
        control=home / "rabbitmqctl",
        epmd=mapper,
        has_management=any(plugins.glob("rabbitmq_management-*")),
    )


@dataclass
class PrivateRabbit:
    """One RabbitMQ node of ours, found again by its record in the run directory."""

    kind: ClassVar = "private"

    run_dir: Path
    server: Path
    control: Path
    epmd: Path
    has_management: bool
    node: str = field(default_factory=lambda: f"partner-hub-{secrets.token_hex(4)}@localhost")
    password: str = field(default_factory=records.password)
    amqp_port: int = field(default_factory=free_port)
    management_port: int = field(default_factory=free_port)
    distribution_port: int = field(default_factory=free_port)
    mapper_port: int = field(default_factory=free_port)
    process: ProcessId | None = None
    mapper: ProcessId | None = None

    @classmethod
    def create(cls, run_dir: Path, binaries: Binaries) -> PrivateRabbit:
        """Make an empty node and start it, without waiting."""
        broker = cls(run_dir, **vars(binaries))
        shutil.rmtree(broker.home, ignore_errors=True)
        broker.home.mkdir(parents=True, mode=0o700)
        broker._configure()
        broker._save()
        broker.launch()
        return broker

    @classmethod
    def load(cls, run_dir: Path) -> PrivateRabbit | None:
        """Find the node that this run directory remembers."""
        record = records.load(run_dir / "rabbitmq.json")
        if record is None or record.pop("kind") != cls.kind:
            return None
        for name in ("run_dir", "server", "control", "epmd"):
            record[name] = Path(record[name])
        for name in ("process", "mapper"):
            record[name] = ProcessId(**record[name]) if record[name] else None
        return cls(**record)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.amqp_port}/"

    @property
    def management_url(self) -> str | None:
        """The broker's own HTTP interface, with sign-in."""
        if not self.has_management:
            return None
        return f"http://{USER}:{self.password}@127.0.0.1:{self.management_port}"

    @property
    def home(self) -> Path:
        """Everything that the node keeps."""
        return self.run_dir / "rabbitmq"

    @property
    def log(self) -> Path:
        """What the node says."""
        return self.run_dir / "logs" / "rabbitmq.log"

    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.is_alive()

    def launch(self) -> None:
        """Start it without waiting."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        while not (self.mapper and self.mapper.is_alive()):
            self._launch_mapper()
        self.process = spawn([str(self.server)], log=self.log, environment=self._environment(), folder=self.home)
        self._save()

    def wait_until_ready(self) -> None:
        """Wait until it speaks AMQP."""
        if not eventually(self._ready_or_relaunched, START_SECONDS):
            raise LocalError(f"RabbitMQ did not start; the end of {self.log}:\n{tail(self.log)}")

    def start(self) -> None:
        """Start it again where it was, and wait until it speaks AMQP."""
        if not self.is_running():
            self.launch()
        self.wait_until_ready()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process:
            self.process.end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        if self.process:
            self.process.end(signal.SIGTERM, seconds=30)

    def restart(self) -> None:
        """Stop it in good order and start it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        if self.process:
            self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen broker go on."""
        if self.process:
            self.process.send(signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node and give its output."""
        done = subprocess.run(
            [str(self.control), "-q", "-n", self.node, *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LocalError(f"rabbitmqctl {arguments[0]} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def import_definitions(self, definitions: str) -> None:
        """Make the users and rights of a definitions file."""
        # Through a file: the rabbitmqctl of 4.0 waits for ever for what it is to read from standard input.
        file = self.home / "definitions.json"
        records.write_private(file, definitions)
        try:
            self.ctl("import_definitions", str(file))
        finally:
            file.unlink()

    def destroy(self) -> None:
        """End it and its port mapper, and remove its data."""
        for process in (self.process, self.mapper):
            if process:
                process.end(signal.SIGKILL)  # the data goes anyway
        shutil.rmtree(self.home, ignore_errors=True)
        (self.run_dir / "rabbitmq.json").unlink(missing_ok=True)

    def _launch_mapper(self) -> None:
        """Start Erlang's port mapper; it ends at once if somebody has its port."""
        if answers(self.mapper_port):
            self.mapper_port = free_port()
        command = [str(self.epmd), "-port", str(self.mapper_port), "-address", "127.0.0.1"]
        self.mapper = spawn(command, log=self.home / "epmd.log")
        self._save()  # at once: a process that no record names would never be ended
        eventually(lambda: answers(self.mapper_port), 5)

    def _ready_or_relaunched(self) -> bool:
        if not self.is_running():
            if re.search(r"eaddrinuse|already in use", tail(self.log, 60)):
                self._choose_other_ports()
            self.launch()
            return False
        return speaks_amqp("127.0.0.1", self.amqp_port)

    def _choose_other_ports(self) -> None:
        for name in ("amqp_port", "management_port", "distribution_port"):
            if answers(getattr(self, name)):
                setattr(self, name, free_port())
        self._configure()

    def _configure(self) -> None:
        text = CONFIGURATION.format(user=USER, **asdict(self))
        if not self.has_management:
            text = "\n".join(line for line in text.splitlines() if not line.startswith("management."))
        records.write_private(self.home / "rabbitmq.conf", text)
        plugins = "[rabbitmq_management]." if self.has_management else "[]."
        records.write_private(self.home / "enabled_plugins", plugins + "\n")
        cookie = self.home / ".erlang.cookie"
        if not cookie.exists():
            records.write_private(cookie, secrets.token_hex(20))
            cookie.chmod(0o400)

    def _environment(self) -> dict[str, str]:
        home = self.home
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(home / "erl_crash.dump"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_PORT": str(self.amqp_port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            # Idle schedulers do not spin, and the distribution listens on the loopback interface alone.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
            # Makes the start script replace itself by the virtual machine, so that the recorded id is the broker's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _save(self) -> None:
        record: dict[str, Any] = asdict(self) | {"kind": self.kind}
        record |= {name: str(record[name]) for name in ("run_dir", "server", "control", "epmd")}
        records.save(self.run_dir / "rabbitmq.json", record)


def speaks_amqp(host: str, port: int) -> bool:
    """Whether an AMQP broker answers there."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(connection.recv(8))
    except OSError:
        return False
