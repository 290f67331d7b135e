"""`python -m shared.bus users`, as a deployment runs it: users and passwords over the broker's own management."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import urlsplit, urlunsplit

import pytest
from aiormq.exceptions import ChannelAccessRefused
from typer.testing import CliRunner

from local.infrastructure import Servers
from shared import topology
from shared.bus.__main__ import app
from shared.bus.connection import BrokerConnection, BrokerUnavailable
from shared.bus.management import import_definitions
from shared.permissions import OWNER, SERVICES


async def works(url: str) -> None:
    """Look at the service's own queue, as its consumer does."""
    connection = BrokerConnection(url, purpose="test")
    try:
        channel = await connection.channel()
        await channel.queue_declare(topology.AUTH_EVENTS.name, passive=True)
    finally:
        await connection.close()


async def declares(url: str) -> None:
    connection = BrokerConnection(url, purpose="test")
    try:
        channel = await connection.channel()
        await channel.queue_declare("auth.other")
    finally:
        await connection.close()


async def test_users_are_made_over_the_management_and_get_a_new_password_the_same_way(
    servers: Servers, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if servers.is_broker_given or servers.management_url is None:
        pytest.skip("needs a broker of ours with its management")
    management = urlsplit(servers.management_url)
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", f"http://{management.hostname}:{management.port}")
    monkeypatch.setenv("RABBITMQ_ADMIN_USERNAME", management.username or "")
    monkeypatch.setenv("RABBITMQ_ADMIN_PASSWORD", management.password or "")
    parts = urlsplit(broker)
    place, suffix = parts.netloc.rpartition("@")[2], secrets.token_hex(3)
    for password in ("first", "second"):
        urls = {
            name: urlunsplit(parts._replace(netloc=f"{name}-{suffix}:{password}@{place}"))
            for name in (*SERVICES, OWNER)
        }
        for service in SERVICES:
            monkeypatch.setenv(f"{service.upper()}_AMQP_URL", urls[service])
        monkeypatch.setenv("AMQP_URL", urls[OWNER])
        made = await asyncio.to_thread(CliRunner().invoke, app, ["users"])
        assert made.output.startswith(f"made {len(urls)} users: "), made.exception
        await works(urls["auth"])
        with pytest.raises(ChannelAccessRefused):
            await declares(urls["auth"])
    with pytest.raises(BrokerUnavailable):
        await works(urls["auth"].replace(":second@", ":first@"))
    monkeypatch.setenv("RABBITMQ_ADMIN_PASSWORD", "wrong")
    assert "does not know this user" in str(CliRunner().invoke(app, ["users"]).exception)
    monkeypatch.delenv("RABBITMQ_ADMIN_PASSWORD")
    assert "Set RABBITMQ_MANAGEMENT_URL" in str(CliRunner().invoke(app, ["users"]).exception)


def test_management_that_is_away_is_waited_for_and_then_said_in_one_line() -> None:
    with pytest.raises(
        SystemExit, match=r"The broker's management at http://127\.0\.0\.1:1 is not available \(Connect"
    ):
        import_definitions("http://127.0.0.1:1", ("admin", "none"), {}, wait_seconds=0)
