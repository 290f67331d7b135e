"""PostgreSQL and RabbitMQ as containers, where a Docker engine answers; testcontainers starts them."""

from __future__ import annotations

import os
import secrets
import selectors
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, ClassVar, cast
from urllib.parse import urlsplit

from local import postgres, records
from local.errors import LocalError
from local.postgres import DATABASE, OWNER
from local.processes import eventually, free_port
from local.progress import say, step
from local.rabbitmq import USER, speaks_amqp
from local.sql import serves

POSTGRES_IMAGE, RABBITMQ_IMAGE = "postgres:17", "rabbitmq:4-management"
DEFINITIONS = "/tmp/definitions.json"  # noqa: S108 - in the container
LABEL = "partner-hub.run-dir"
ENGINE_SECONDS = 5
REGISTRY_SECONDS = 20  # until `docker pull` has read the image's manifest; only then does it print its first line
PULL_SECONDS = 900
START_SECONDS = 120


def docker(*arguments: str, timeout: float = 60, stdin: str | None = None) -> str:
    """Run the docker command and give its output."""
    try:
        done = subprocess.run(
            [shutil.which("docker") or "docker", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(str(error)) from error
    if done.returncode:
        message = (done.stderr.strip() or done.stdout.strip() or "no answer").splitlines()[-1]
        raise LocalError(message)
    return done.stdout.strip()


@cache
def engine_answers() -> bool:
    """Whether a Docker engine can be used; if not, says why in one line."""
    if shutil.which("docker") is None:
        return False
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout=ENGINE_SECONDS)
    except LocalError as error:
        say(f"No Docker engine answers ({error}); going on without it.")
        return False
    return True


@cache
def has_image(image: str) -> bool:
    """Whether the engine has an image or gets it now; if not, says why in one line."""
    try:
        docker("image", "inspect", "--format", "{{.Id}}", image)
    except LocalError:
        try:
            with step(f"Fetching the image {image}"):
                _pull(image)
        except LocalError as error:
            say(f"Docker cannot have the image {image} ({error}); going on without it.")
            return False
    return True


def _pull(image: str) -> None:
    """Fetch an image, giving up soon where no registry answers."""
    command = [shutil.which("docker") or "docker", "pull", image]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as pull:
        try:
            with selectors.DefaultSelector() as answer:
                answer.register(cast("IO[bytes]", pull.stdout), selectors.EVENT_READ)
                if not answer.select(REGISTRY_SECONDS):
                    raise LocalError(f"no registry answered within {REGISTRY_SECONDS} s")
            output, _ = pull.communicate(timeout=PULL_SECONDS)
        except subprocess.TimeoutExpired:
            raise LocalError(f"not fetched within {PULL_SECONDS} s") from None
        finally:
            pull.kill()
    if pull.returncode:
        raise LocalError((output.decode(errors="replace").strip() or "no reason given").splitlines()[-1])


def _host() -> str:
    """Where published ports are: on the engine's machine."""
    engine = urlsplit(os.environ.get("DOCKER_HOST", ""))
    return engine.hostname or "127.0.0.1" if engine.scheme == "tcp" else "127.0.0.1"


@dataclass
class Container:
    """One server of ours in a container, found again by its record in the run directory."""

    kind: ClassVar = "docker"
    server: ClassVar[str]

    run_dir: Path
    unsafe_fast: bool = False
    name: str = field(default_factory=lambda: f"partner-hub-{secrets.token_hex(4)}")
    password: str = field(default_factory=records.password)
    # Published on ports of our choice: those that the engine would choose change at every restart.
    port: int = field(default_factory=free_port)
    second_port: int = field(default_factory=free_port)

    @classmethod
    def load(cls, run_dir: Path) -> Any:
        """Find the container that this run directory remembers."""
        record = records.load(run_dir / f"{cls.server}.json")
        if record is None or record.pop("kind") != cls.kind:
            return None
        return cls(**record | {"run_dir": Path(record["run_dir"])})

    def is_running(self) -> bool:
        """Whether the container runs."""
        try:
            return docker("inspect", "--format", "{{.State.Running}}", self.name) == "true"
        except LocalError:
            return False

    def start(self) -> None:
        """Start it again where it was, and wait until it serves."""
        if not self.is_running():
            docker("start", self.name)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it serves."""
        if not eventually(self._serves, START_SECONDS):
            raise LocalError(f"The container {self.name} did not start; see: docker logs {self.name}")

    def kill(self) -> None:
        """End it as a power cut would."""
        docker("kill", self.name)

    def stop(self) -> None:
        """End it in good order."""
        docker("stop", self.name)

    def restart(self) -> None:
        """Stop it in good order and start it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        docker("pause", self.name)

    def resume(self) -> None:
        """Let a frozen container go on."""
        docker("unpause", self.name)

    def destroy(self) -> None:
        """Remove it and its data."""
        try:
            docker("rm", "--force", "--volumes", self.name)
        except LocalError as error:
            if "No such container" not in str(error):
                raise
        (self.run_dir / f"{self.server}.json").unlink(missing_ok=True)

    def _serves(self) -> bool:
        raise NotImplementedError

    def _run(self, image: str, *, publish: dict[int, int], environment: dict[str, str], arguments: list[str]) -> None:
        records.save(
            self.run_dir / f"{self.server}.json", asdict(self) | {"run_dir": str(self.run_dir), "kind": self.kind}
        )
        # `make clean` loads this module also where no environment is left.
        from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415

        # Its reaper would remove what is to outlive this process; the record names it for whoever comes next.
        testcontainers_config.ryuk_disabled = True
        container = DockerContainer(image, name=self.name).with_envs(**environment).with_command(arguments)
        container.with_kwargs(hostname=self.server, labels={LABEL: str(self.run_dir)})
        for ours, theirs in publish.items():
            container.ports[str(theirs)] = _bind(ours)
        container.start()
        container.get_docker_client().client.close()


def _bind(port: int) -> Any:
    """Only this machine may connect, unless the engine is another machine's."""
    return ("127.0.0.1", port) if _host() == "127.0.0.1" else port


class ContainerPostgres(Container):
    """PostgreSQL in a container."""

    server = "postgres"

    @property
    def url(self) -> str:
        """Where its owner signs in."""
        return f"postgresql://{OWNER}:{self.password}@{_host()}:{self.port}/{DATABASE}"

    @classmethod
    def create(cls, run_dir: Path, *, unsafe_fast: bool) -> ContainerPostgres:
        """Run an empty database cluster."""
        server = cls(run_dir, unsafe_fast=unsafe_fast)
        names = {"POSTGRES_USER": OWNER, "POSTGRES_DB": DATABASE, "POSTGRES_PASSWORD": server.password}
        arguments = ["postgres", *postgres.settings(unsafe_fast=unsafe_fast)]
        server._run(POSTGRES_IMAGE, publish={server.port: 5432}, environment=names, arguments=arguments)
        return server

    def _serves(self) -> bool:
        return serves(self.url)


class ContainerRabbit(Container):
    """RabbitMQ in a container."""

    server = "rabbitmq"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"amqp://{USER}:{self.password}@{_host()}:{self.port}/"

    @property
    def management_url(self) -> str | None:
        """The broker's own HTTP interface, with sign-in."""
        return f"http://{USER}:{self.password}@{_host()}:{self.second_port}"

    @classmethod
    def create(cls, run_dir: Path) -> ContainerRabbit:
        """Run an empty node."""
        broker = cls(run_dir)
        names = {"RABBITMQ_DEFAULT_USER": USER, "RABBITMQ_DEFAULT_PASS": broker.password}
        ports = {broker.port: 5672, broker.second_port: 15672}
        broker._run(RABBITMQ_IMAGE, publish=ports, environment=names, arguments=[])
        return broker

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node and give its output."""
        return docker("exec", self.name, "rabbitmqctl", "-q", *arguments)

    def import_definitions(self, definitions: str) -> None:
        """Make the users and rights of a definitions file."""
        # Through a file: the rabbitmqctl of 4.0 waits for ever for what it is to read from standard input.
        docker("exec", "--interactive", self.name, "sh", "-c", f"cat > {DEFINITIONS}", stdin=definitions)
        try:
            self.ctl("import_definitions", DEFINITIONS)
        finally:
            docker("exec", self.name, "rm", DEFINITIONS)

    def _serves(self) -> bool:
        return speaks_amqp(_host(), self.port)
