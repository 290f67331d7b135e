"""PostgreSQL and RabbitMQ for one run of the system: given ones, containers, or private instances of this machine."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from local import containers, packages, postgres, rabbitmq
from local.containers import (
    ContainerPostgres,
    ContainerRabbit,
    engine_answers,
    has_image,
)
from local.errors import LocalError
from local.postgres import PrivatePostgres
from local.progress import step
from local.rabbitmq import PrivateRabbit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Server(Protocol):
    """What both servers can be told; also what tests do to them on purpose."""

    @property
    def url(self) -> str:
        """Where its clients connect."""

    def is_running(self) -> bool:
        """Whether it runs."""

    def wait_until_ready(self) -> None:
        """Wait until it serves."""

    def start(self) -> None:
        """Start it again where it was, and wait until it serves."""

    def kill(self) -> None:
        """End it as a power cut would."""

    def stop(self) -> None:
        """End it in good order."""

    def restart(self) -> None:
        """Stop it in good order and start it again."""

    def destroy(self) -> None:
        """End it and remove its data."""


class Broker(Server, Protocol):
    """What only RabbitMQ can be told."""

    @property
    def management_url(self) -> str | None:
        """The broker's own HTTP interface, with sign-in."""

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""

    def resume(self) -> None:
        """Let it go on."""

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl and give its output."""

    def import_definitions(self, definitions: str) -> None:
        """Make the users and rights of a definitions file."""


@dataclass(frozen=True)
class Given:
    """A server that somebody else runs: it is used, and never touched."""

    url: str
    management_url: str | None = None

    def is_running(self) -> bool:
        """Assumed; the services find out."""
        return True

    def wait_until_ready(self) -> None:
        """Nothing to wait for."""

    def destroy(self) -> None:
        """Nothing of ours to remove."""

    def _not_ours(self, *_: str, **__: Any) -> Any:
        raise LocalError(
            "This server was given by DATABASE_URL or AMQP_URL: it is not ours to stop, freeze or administer."
        )

    start = kill = stop = restart = pause = resume = ctl = import_definitions = _not_ours


@dataclass(frozen=True)
class Servers:
    """The two servers of one run, ready for use."""

    postgres: Server
    broker: Broker

    @property
    def postgres_url(self) -> str:
        """The owner's door to the database of the system."""
        return self.postgres.url

    @property
    def amqp_url(self) -> str:
        """Where AMQP clients connect."""
        return self.broker.url

    @property
    def management_url(self) -> str | None:
        """The broker's own HTTP interface, with sign-in, where there is one."""
        return self.broker.management_url

    @property
    def is_broker_given(self) -> bool:
        """Whether somebody else runs the broker, and knows its users."""
        return isinstance(self.broker, Given)


def start(run_dir: Path, *, unsafe_fast: bool = False) -> Servers:
    """Give this run its servers; those that run already are taken as they are. Unsafe but fast is for tests only."""
    run_dir = run_dir.resolve()
    run_dir.mkdir(parents=True, exist_ok=True)
    with _alone(run_dir):
        found = _running(run_dir)
        if found:
            return found
        _destroy(run_dir)  # what a crash or a reboot left of an earlier run
        database, broker = _sources()
        with step(f"Starting PostgreSQL ({database.title}) and RabbitMQ ({broker.title})"):
            # The broker takes longest, so it starts first and is waited for last.
            servers = Servers(
                broker=broker.create(run_dir, unsafe_fast), postgres=database.create(run_dir, unsafe_fast)
            )
            servers.postgres.wait_until_ready()
            servers.broker.wait_until_ready()
        return servers


def obtain() -> None:
    """Make sure that this machine can start both servers, so that whoever starts them side by side finds them there."""
    _sources()


def stop(run_dir: Path) -> None:
    """End the servers of this run and remove their data; only what the run directory names is touched."""
    run_dir = run_dir.resolve()
    if run_dir.is_dir():
        with _alone(run_dir):
            _destroy(run_dir)


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """Nobody else starts or stops servers of this run meanwhile."""
    with (run_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remembered(run_dir: Path) -> list[Any]:
    kinds = (PrivatePostgres, ContainerPostgres, PrivateRabbit, ContainerRabbit)
    return [server for kind in kinds if (server := kind.load(run_dir))]


def _running(run_dir: Path) -> Servers | None:
    """Find the servers of this run, if both of them are there already."""
    database = PrivatePostgres.load(run_dir) or ContainerPostgres.load(run_dir) or _given("DATABASE_URL")
    broker = PrivateRabbit.load(run_dir) or ContainerRabbit.load(run_dir) or _given("AMQP_URL")
    if not (database and broker and database.is_running() and broker.is_running()):
        return None
    servers = Servers(database, broker)
    servers.postgres.wait_until_ready()
    servers.broker.wait_until_ready()
    return servers


def _destroy(run_dir: Path) -> None:
    for server in _remembered(run_dir):
        server.destroy()


def _given(variable: str) -> Given | None:
    url = os.environ.get(variable)
    return Given(url) if url else None


@dataclass(frozen=True)
class Source:
    """Where a server comes from, and how one is made there."""

    title: str
    create: Callable[[Path, bool], Any]


def _sources() -> tuple[Source, Source]:
    """Choose the first source that this machine offers, for each server by itself."""
    database, broker = _postgres_source(), _broker_source()
    missing = {"postgresql": database, "rabbitmq-server": broker}
    absent = [package for package, source in missing.items() if source is None]
    if absent:
        if not packages.can_install():
            raise LocalError(
                f"Not found on this machine: {' and '.join(absent)}. Install Docker, or these packages of the"
                " distribution; or give DATABASE_URL and AMQP_URL of servers that run."
            )
        packages.install(absent)
        database, broker = _postgres_source(), _broker_source()
    if database is None or broker is None:
        raise LocalError(f"The installed packages {' '.join(absent)} do not contain what was looked for.")
    return database, broker


def _docker_has(image: str) -> bool:
    """Whether Docker runs this server; REQUIRE_DOCKER, for `make test-docker`, lets nothing else take its place."""
    if engine_answers() and has_image(image):
        return True
    if os.environ.get("REQUIRE_DOCKER"):
        raise LocalError(f"REQUIRE_DOCKER is set, and no Docker engine has the image {image}.")
    return False


def _postgres_source() -> Source | None:
    if given := _given("DATABASE_URL"):
        return Source("given", lambda *_: given)
    if _docker_has(containers.POSTGRES_IMAGE):
        return Source("Docker", lambda run_dir, fast: ContainerPostgres.create(run_dir, unsafe_fast=fast))
    if binaries := postgres.find_binaries():
        return Source(str(binaries), lambda run_dir, fast: PrivatePostgres.create(run_dir, binaries, unsafe_fast=fast))
    return None


def _broker_source() -> Source | None:
    if given := _given("AMQP_URL"):
        return Source("given", lambda *_: given)
    if _docker_has(containers.RABBITMQ_IMAGE):
        return Source("Docker", lambda run_dir, _: ContainerRabbit.create(run_dir))
    if binaries := rabbitmq.find_binaries():
        return Source(str(binaries.server.parent), lambda run_dir, _: PrivateRabbit.create(run_dir, binaries))
    return None
