"""The same servers in containers; runs where a Docker engine answers and has the images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import containers, infrastructure, records
from local.errors import LocalError
from local.infrastructure import Servers
from local.processes import eventually
from local.sql import query

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    if not (
        containers.engine_answers() and _is_here(containers.POSTGRES_IMAGE) and _is_here(containers.RABBITMQ_IMAGE)
    ):
        pytest.skip("needs a Docker engine with both images")
    if os.environ.get("DATABASE_URL") or os.environ.get("AMQP_URL"):
        pytest.skip("given addresses come before Docker")
    folder = tmp_path_factory.mktemp("docker")
    yield infrastructure.start(folder, unsafe_fast=True)
    infrastructure.stop(folder)


def _is_here(image: str) -> bool:
    try:
        containers.docker("image", "inspect", "--format", "{{.Id}}", image)
    except LocalError:
        return False
    return True


def test_what_was_committed_survives_a_hard_end_at_the_same_address(servers: Servers) -> None:
    query(servers.postgres_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    servers.postgres.kill()
    assert not servers.postgres.is_running()
    servers.postgres.start()
    assert query(servers.postgres_url, "SELECT answer FROM kept") == [(42,)]


def test_the_broker_can_be_frozen_resumed_and_administered(servers: Servers) -> None:
    servers.broker.pause()
    try:
        with pytest.raises(LocalError, match="paused"):
            servers.broker.ctl("list_queues")
    finally:
        servers.broker.resume()
    servers.broker.wait_until_ready()
    assert "partner_hub" in servers.broker.ctl("list_users")


def test_stopping_removes_the_containers_and_their_data(servers: Servers) -> None:
    run_dir = servers.postgres.run_dir  # type: ignore[attr-defined]
    assert isinstance(run_dir, Path)
    mine = ["ps", "--all", "--quiet", "--filter", f"label={containers.LABEL}={run_dir}"]
    assert len(containers.docker(*mine).splitlines()) == 2
    infrastructure.stop(run_dir)
    assert eventually(lambda: containers.docker(*mine) == "", 20)
    assert records.load(run_dir / "postgres.json") is None


def test_an_image_that_cannot_be_had_is_passed_over_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    if not containers.engine_answers():
        pytest.skip("needs a Docker engine")
    capsys.readouterr()
    assert containers.has_image("registry.invalid/no-such-image:1") is False
    assert "going on without it" in capsys.readouterr().out
