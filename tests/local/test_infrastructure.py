"""The private servers of one run: beside each other, ended hard, started again, gone without a trace."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aio_pika
import pytest

from local import containers, infrastructure, packages, postgres, rabbitmq
from local.errors import LocalError
from local.processes import ProcessId, eventually, identify
from local.sql import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.infrastructure import Servers

pytestmark = pytest.mark.timeout(400)  # the first test starts four servers


@pytest.fixture(scope="module", autouse=True)
def only_this_machine() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infrastructure, "engine_answers", lambda: False)
        patch.delenv("DATABASE_URL", raising=False)
        patch.delenv("AMQP_URL", raising=False)
        patch.delenv("REQUIRE_DOCKER", raising=False)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    if postgres.find_binaries() is None or rabbitmq.find_binaries() is None:
        pytest.skip("needs the servers' binaries on this machine")
    home = tmp_path_factory.mktemp("runs")
    yield [home / "one", home / "two"]
    for folder in (home / "one", home / "two"):
        infrastructure.stop(folder)


@pytest.fixture
def stacks(folders: list[Path]) -> list[Servers]:
    return [infrastructure.start(folder, unsafe_fast=True) for folder in folders]


def processes_of(servers: Servers) -> list[ProcessId]:
    found = [servers.postgres.process, servers.broker.process, servers.broker.mapper]  # type: ignore[attr-defined]
    assert all(process.is_alive() for process in found)
    return found


async def publish(servers: Servers, queue: str) -> None:
    async with await aio_pika.connect(servers.amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        # RabbitMQ 3.10 notes a new quorum queue on disk a second late (ra_directory's auto_save). A broker that is
        # killed before forgets the queue's log with all that it confirmed. Measured here; only new queues suffer.
        assert eventually(lambda: is_noted_on_disk(servers, queue), 60)
        await channel.default_exchange.publish(aio_pika.Message(b"kept", delivery_mode=2), routing_key=queue)


def is_noted_on_disk(servers: Servers, queue: str) -> bool:
    notes = servers.broker.home.rglob("names.dets")  # type: ignore[attr-defined]
    return any(f"_{queue}".encode() in path.read_bytes() for path in notes)


async def take(servers: Servers, queue: str) -> bytes:
    async with await aio_pika.connect(servers.amqp_url) as connection:
        declared = await (await connection.channel()).declare_queue(queue, passive=True)
        async with declared.iterator(no_ack=True, timeout=60) as messages:
            return (await anext(messages)).body


async def test_two_runs_side_by_side_know_nothing_of_each_other(stacks: list[Servers]) -> None:
    one, two = stacks
    query(one.postgres_url, "CREATE TABLE mine (answer int)")
    await publish(one, "mine")
    assert query(two.postgres_url, "SELECT to_regclass('mine')") == [(None,)]
    assert "mine" in one.broker.ctl("list_queues", "name")
    assert "mine" not in two.broker.ctl("list_queues", "name")


async def test_what_was_confirmed_survives_a_hard_end(stacks: list[Servers]) -> None:
    servers = stacks[0]
    query(servers.postgres_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    await publish(servers, "kept")
    for server in (servers.postgres, servers.broker):
        server.kill()
        assert not server.is_running()
        server.start()
    assert query(servers.postgres_url, "SELECT answer FROM kept") == [(42,)]
    assert await take(servers, "kept") == b"kept"


def test_starting_what_runs_already_gives_the_same_servers(stacks: list[Servers], folders: list[Path]) -> None:
    again = infrastructure.start(folders[0])
    assert processes_of(again) == processes_of(stacks[0])


def test_passwords_are_readable_by_their_owner_only(stacks: list[Servers], folders: list[Path]) -> None:
    passwords = [str(urlsplit(url).password) for url in (stacks[0].postgres_url, stacks[0].amqp_url)]
    files = [Path(folder, name) for folder, _, names in os.walk(folders[0]) for name in names]
    holders = [path for path in files if any(text in contents(path) for text in passwords)]
    assert {"postgres.json", "rabbitmq.json", "rabbitmq.conf"} <= {path.name for path in holders}
    assert {oct(path.stat().st_mode & 0o077) for path in holders} == {"0o0"}


def contents(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:  # the servers run, and remove files of theirs
        return ""


def test_a_frozen_broker_answers_nobody_until_it_is_resumed(stacks: list[Servers]) -> None:
    broker = stacks[0].broker
    host, port = "127.0.0.1", urlsplit(broker.url).port or 0
    broker.pause()
    try:
        assert eventually(lambda: not rabbitmq.speaks_amqp(host, port), 60)
    finally:
        broker.resume()
    assert eventually(lambda: rabbitmq.speaks_amqp(host, port), 60)


def test_servers_of_a_crashed_run_make_way_for_new_ones(stacks: list[Servers], folders: list[Path]) -> None:
    crashed = stacks[0]
    old = processes_of(crashed)
    crashed.broker.kill()
    fresh = infrastructure.start(folders[0], unsafe_fast=True)
    assert fresh.amqp_url != crashed.amqp_url
    assert not any(process.is_alive() for process in old)
    assert query(fresh.postgres_url, "SELECT 1") == [(1,)]


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Listen on a port as soon as what is left of its killed server lets go of it."""
    made: list[socket.socket] = []

    def take() -> bool:
        try:
            made.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            return False
        return True

    assert eventually(take, 60)
    with made[0]:
        yield


def test_a_server_whose_port_was_taken_meanwhile_moves_to_another(stacks: list[Servers]) -> None:
    for server in (stacks[1].postgres, stacks[1].broker):
        before = server.url
        server.kill()
        with taken(urlsplit(before).port or 0):
            server.start()
        assert server.url != before
    assert query(stacks[1].postgres_url, "SELECT 1") == [(1,)]
    assert "partner_hub" in stacks[1].broker.ctl("list_users")


def test_stopping_leaves_no_process_and_no_data(stacks: list[Servers], folders: list[Path]) -> None:
    everything = [process for servers in stacks for process in processes_of(servers)]
    for folder in folders:
        infrastructure.stop(folder)
    assert not any(process.is_alive() for process in everything)
    assert {path.name for folder in folders for path in folder.iterdir()} == {"lock", "logs"}


def test_given_addresses_are_used_as_they_are_and_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://owner@db.example.com/partner_hub")
    monkeypatch.setenv("AMQP_URL", "amqp://mq.example.com/")
    servers = infrastructure.start(tmp_path)
    assert servers.postgres_url == "postgresql://owner@db.example.com/partner_hub"
    assert servers.amqp_url == "amqp://mq.example.com/"
    with pytest.raises(LocalError, match="not ours to stop"):
        servers.broker.kill()
    infrastructure.stop(tmp_path)


def test_a_machine_with_nothing_gets_one_message_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "find_binaries", lambda: None)
    monkeypatch.setattr(rabbitmq, "find_binaries", lambda: None)
    monkeypatch.setattr(packages, "can_install", lambda: False)
    with pytest.raises(LocalError, match="postgresql and rabbitmq-server"):
        infrastructure.start(tmp_path)


def test_an_engine_that_does_not_answer_is_passed_over_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(containers, "ENGINE_SECONDS", 60)
    assert containers.engine_answers.__wrapped__() is False
    assert (
        capsys.readouterr().out
        == "No Docker engine answers (Cannot connect to the Docker daemon); going on without it.\n"
    )


def test_a_run_that_requires_docker_takes_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_DOCKER", "1")
    with pytest.raises(LocalError, match="no Docker engine has the image postgres:17"):
        infrastructure.start(tmp_path)


def test_a_process_id_given_to_another_process_is_not_taken_for_the_old_one() -> None:
    ourselves = identify(os.getpid())
    assert ourselves.is_alive()
    stranger = ProcessId(os.getpid(), "long ago")
    assert not stranger.is_alive()
    stranger.end(signal.SIGKILL)  # would end the tests if it were believed
