"""Each service's user at the broker can do what its service must, and nothing else; on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
import pytest
from aiormq.channel import Channel
from aiormq.exceptions import ChannelAccessRefused
from typer.testing import CliRunner

from local.infrastructure import Servers
from shared import outbox, permissions, topology
from shared.bus.__main__ import app
from shared.bus.connection import OPENED, BrokerConnection
from shared.bus.dead_letters import DeadLetters
from shared.bus.declare import declare
from shared.bus.handling import Delivery, Handler, batch
from shared.bus.publisher import NotPermitted, Outgoing
from shared.bus.stream import follow
from shared.db import Connection
from shared.errors import Invalid, Unavailable
from shared.events import Envelope, Event, ReferralsAudit, SessionsRevoked, UserChanged, UserRegistered, encode
from shared.health import Health
from shared.permissions import NOTHING, OWNER, PUBLISHERS, SERVICES, User
from shared.topology import CONSUMERS, LADDER
from shared.worker import Work
from tests.architecture.tree import SERVICES as FOLDERS
from tests.support.builders import a_user_registered
from tests.support.databases import Databases, FreshDatabase
from tests.support.eventually import eventually
from tests.support.messages import depth, drain, publishing
from tests.support.running import running

Urls = Mapping[str, str]
Deed = Callable[[Channel], Awaitable[object]]
FORGED = "referrals.audit.recorded.v1"


@pytest.fixture(scope="module")
def made_users(servers: Servers, declared_broker: str) -> dict[str, str]:
    """A user for each service and the owner, made as a deployment makes them: the address of each."""
    if servers.is_broker_given:
        pytest.skip("makes users, and a given broker is not ours to administer")
    parts = urlsplit(declared_broker)
    place = parts.netloc.rpartition("@")[2]
    suffix = secrets.token_hex(3)
    urls = {
        name: urlunsplit(parts._replace(netloc=f"{name}-{suffix}:{secrets.token_hex(8)}@{place}"))
        for name in permissions.rights()
    }
    definitions = permissions.definitions({name: User.of(url) for name, url in urls.items()})
    servers.broker.import_definitions(json.dumps(definitions))
    return urls


@pytest.fixture
def users(made_users: dict[str, str], broker: str) -> Urls:
    """The address of each user, at a broker whose queues are empty."""
    assert broker
    return made_users


@asynccontextmanager
async def channel_of(url: str) -> AsyncIterator[Channel]:
    connection = BrokerConnection(url, purpose="test")
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def is_refused(url: str, deed: Deed) -> bool:
    async with channel_of(url) as channel:
        try:
            await deed(channel)
        except ChannelAccessRefused:
            return True
        return False


async def publish(url: str, exchange: str, routing_key: str, body: bytes = b"{}", **headers: Any) -> None:
    message = Outgoing(exchange, routing_key, body, secrets.token_hex(8), mandatory=False, headers=headers)
    async with publishing(url) as publisher:
        (problem,) = await publisher.publish([message])
    if problem is not None:
        raise problem


def queues_of(service: str) -> list[str]:
    own = [bound.name for bound in topology.BOUND if bound.name.partition(".")[0] == service]
    return [*own, topology.dead_letters_of(service)] if service in CONSUMERS else own


def exchanges_of(service: str) -> list[str]:
    return [topology.retry_exchange_of(service), topology.return_exchange_of(service), f"{service}.dlx"]


def test_every_service_has_a_user_and_none_of_them_may_declare() -> None:
    assert SERVICES == FOLDERS
    assert {name for name, rights in permissions.rights().items() if rights.configure != NOTHING} == {OWNER}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_consumes_its_own_queues(users: Urls, service: str) -> None:
    async def attach(_: object) -> None:
        return None

    async with channel_of(users[service]) as channel:
        await channel.basic_qos(prefetch_count=1)
        for queue in queues_of(service):
            await channel.queue_declare(queue, passive=True)
            await channel.basic_consume(queue, attach)


@pytest.mark.parametrize("service", sorted(PUBLISHERS))
async def test_a_service_publishes_under_its_own_name(users: Urls, broker: str, service: str) -> None:
    await publish(users[service], topology.EVENTS, f"{service}.audit.recorded.v1")
    assert await eventually(lambda: depth(broker, f"audit.events.{service}")) == 1


@pytest.mark.parametrize("service", CONSUMERS)
async def test_a_service_uses_its_own_ladder_and_dead_letters(users: Urls, broker: str, service: str) -> None:
    queue = queues_of(service)[0]
    await publish(users[service], topology.retry_exchange_of(service), f"{LADDER[-1].name}.{queue}")
    await publish(users[service], topology.return_exchange_of(service), f"now.{queue}")
    await publish(users[service], topology.dead_letter_exchange_of(service), queue)
    for name in (f"{service}.retry.{LADDER[-1].name}", queue, f"{service}.dead"):
        assert await eventually(partial(depth, broker, name)) == 1


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_publishes_nothing_under_the_name_of_another(users: Urls, broker: str, service: str) -> None:
    for other in {*FOLDERS, "", "*", f"{service}x"} - {service}:
        with pytest.raises(NotPermitted, match="ACCESS_REFUSED"):
            await publish(users[service], topology.EVENTS, f"{other}.audit.recorded.v1")
    assert [await depth(broker, queue.name) for queue in topology.AUDIT_EVENTS] == [0, 0, 0, 0]


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_writes_to_no_exchange_of_another_and_to_no_queue_directly(users: Urls, service: str) -> None:
    others = [exchange for other in CONSUMERS if other != service for exchange in exchanges_of(other)]
    for exchange in [*others, "", "amq.topic"]:
        with pytest.raises(NotPermitted, match="ACCESS_REFUSED"):
            await publish(users[service], exchange, f"now.{topology.INVITATIONS_EVENTS.name}")


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_no_queue_of_another(users: Urls, service: str) -> None:
    others = [queue.name for queue in topology.topology().queues if queue.name not in queues_of(service)]
    assert [name for name in others if not await is_refused(users[service], partial(take_from, name))] == []
    assert [name for name in others if not await is_refused(users[service], partial(purge, name))] == []


async def take_from(queue: str, channel: Channel) -> object:
    return await channel.basic_get(queue)


async def purge(queue: str, channel: Channel) -> object:
    return await channel.queue_purge(queue)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_declares_binds_and_deletes_nothing_not_even_its_own(users: Urls, service: str) -> None:
    own = queues_of(service)[0]
    deeds: dict[str, Deed] = {
        "declare a queue": lambda channel: channel.queue_declare(f"{service}.more", durable=True),
        "declare an exchange": lambda channel: channel.exchange_declare(exchange=f"{service}.more"),
        "bind": lambda channel: channel.queue_bind(own, topology.EVENTS, "#"),
        "unbind": lambda channel: channel.queue_unbind(own, topology.EVENTS, "#"),
        "delete a queue": lambda channel: channel.queue_delete(own),
        "delete an exchange": lambda channel: channel.exchange_delete(exchange=topology.EVENTS),
    }
    assert {name for name, deed in deeds.items() if not await is_refused(users[service], deed)} == set()


async def test_the_owner_declares_everything_and_publishes_no_event(users: Urls) -> None:
    await declare(users[OWNER])
    for service in FOLDERS:
        with pytest.raises(NotPermitted, match="ACCESS_REFUSED"):
            await publish(users[OWNER], topology.EVENTS, f"{service}.audit.recorded.v1")


async def test_an_event_lives_its_whole_life_under_the_users_of_its_services(users: Urls, databases: Databases) -> None:
    """Relay, queue, rung, dead letter, redrive: with the rights that they have in a deployment."""
    auth, invitations = await databases.make("auth"), await databases.make("invitations")
    failures: list[Exception] = [Unavailable(), *[Invalid("no such tier")] * 2]
    seen: list[int] = []

    async def handle(_: Any, __: Connection, event: UserRegistered) -> None:
        if failures:
            raise failures.pop(0)
        seen.append(event.user_id)

    handlers: Mapping[type[Event], Handler] = {UserRegistered: handle, UserChanged: handle}
    work = [Work(topology.INVITATIONS_EVENTS, handlers)]
    async with running(auth.database, users["auth"]), running(invitations.database, users["invitations"], work=work):
        async with auth.database.transaction() as conn:
            await outbox.add(conn, a_user_registered(6))
        async with DeadLetters(users["invitations"], "invitations") as dead:
            await eventually(lambda: dead.peek(1), what="the dead letter, after one retry,")
            failures.clear()
            assert await dead.redrive(None) == 1
        await eventually(lambda: seen == [6])


async def test_the_gateway_follows_the_events_of_auth_and_skips_what_another_made_look_like_one(
    users: Urls, broker: str
) -> None:
    seen: set[int] = set()
    forged, real = sorted(secrets.SystemRandom().sample(range(1_000_000), 2))  # a stream keeps those of earlier runs
    connection = BrokerConnection(users["gateway"], purpose="test")

    async def keep(envelope: Envelope) -> None:
        assert isinstance(envelope.event, UserChanged | SessionsRevoked)
        seen.add(envelope.event.user_id)

    bodies = {number: encode(UserChanged(**a_user_registered(number).model_dump()))[1] for number in (forged, real)}
    # By the administrator, since RabbitMQ 4 looks at the keys in CC too and refuses this to a service.
    await publish(broker, topology.EVENTS, "referrals.x", bodies[forged], CC=[UserChanged.routing_key])
    await publish(users["auth"], topology.EVENTS, UserChanged.routing_key, bodies[real])
    task = asyncio.create_task(
        follow(topology.GATEWAY_REVOCATIONS, keep, since=timedelta(minutes=1), connection=connection, health=Health())
    )
    try:
        await eventually(lambda: real in seen)
        assert forged not in seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


@pytest.mark.parametrize(
    ("routing_key", "headers", "changes", "reason"),
    [
        ("auth.audit.recorded.v1", {}, {}, "was published as auth.audit.recorded.v1"),
        # RabbitMQ 3.10 checks the routing key alone and not the further ones that a publisher names in CC; 4 does.
        ("auth.audit.recorded.v1", {"CC": [FORGED]}, {}, "was published as auth.audit.recorded.v1"),
        ("auth.audit.recorded.v1", {}, {"type": "auth.audit.recorded.v1"}, "does not come from /partner-hub/referrals"),
    ],
    ids=["another type", "another type and queue", "another source"],
)
async def test_evidence_in_the_name_of_another_becomes_a_dead_letter(
    users: Urls,
    broker: str,
    databases: Databases,
    routing_key: str,
    headers: dict[str, Any],
    changes: dict[str, str],
    reason: str,
) -> None:
    kept: list[Delivery] = []

    @batch
    async def keep(_: Any, __: Connection, deliveries: list[Delivery]) -> None:
        kept.extend(deliveries)

    fresh = await databases.make("audit")
    handlers: Mapping[type[Event], Handler] = {event: keep for queue in topology.AUDIT_EVENTS for event in queue.binds}
    _, body = encode(an_audit_event())
    forged = orjson.dumps(orjson.loads(body) | changes)
    work = [Work(queue, handlers) for queue in topology.AUDIT_EVENTS]
    await publish(broker if headers else users["auth"], topology.EVENTS, routing_key, forged, **headers)
    await publish(users["referrals"], topology.EVENTS, FORGED, body)
    async with running(fresh.database, users["audit"], work=work), DeadLetters(users["audit"], "audit") as dead:
        letters = await eventually(lambda: dead.peek(10))
        assert all(reason in letter.reason for letter in letters)
        await eventually(lambda: kept)
    assert [delivery.headers for delivery in kept] == [{}]


def an_audit_event() -> ReferralsAudit:
    return ReferralsAudit.model_validate(
        {
            "actor": {"id": None, "kind": "anonymous", "roles": []},
            "action": "referrals.connection.completed",
            "outcome": "success",
            "request_id": "request-of-the-test",
        }
    )


@pytest.fixture
async def fresh(databases: Databases) -> FreshDatabase:
    return await databases.make("auth")


async def waiting(fresh: FreshDatabase) -> dict[str, int]:
    async with fresh.database.connection() as conn:
        rows = await conn.fetch("SELECT routing_key, count(*) AS waiting FROM outbox GROUP BY routing_key")
        return {row["routing_key"]: row["waiting"] for row in rows}


async def test_what_a_service_may_not_publish_waits_and_the_rest_goes_on_in_order(
    users: Urls, broker: str, fresh: FreshDatabase, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_NOT_PERMITTED_HOLD_SECONDS", 2)
    caplog.set_level(logging.WARNING, "shared.outbox")
    async with fresh.database.transaction() as conn:
        for number in range(300):  # one that it may, one that it may not
            await outbox.add(conn, a_user_registered(number))
            if number % 2:
                await outbox.add(conn, an_audit_event())
    began = time.monotonic()
    async with running(fresh.database, users["auth"]):
        await eventually(lambda: only_forged(fresh))
        opened, tried = connections_opened(), len(refusals(caplog))
        async with fresh.database.transaction() as conn:
            await outbox.add(conn, a_user_registered(300))
        await eventually(lambda: len(refusals(caplog)) > tried, what="another try")
        await eventually(lambda: only_forged(fresh))
        assert connections_opened() == opened
    bodies = await drain(broker, topology.INVITATIONS_EVENTS.name)
    first_copies = list(dict.fromkeys(orjson.loads(body)["data"]["user_id"] for body in bodies))
    assert first_copies == list(range(301))
    assert await depth(broker, "audit.events.referrals") == 0
    lines = refusals(caplog)
    assert 2 <= len(lines) <= 2 + (time.monotonic() - began) / 2, "one with each try"
    assert all(
        line.startswith(f"150 events {FORGED} were not confirmed and stay in the outbox: ")
        and f"access to topic '{FORGED}' in exchange 'events'" in line
        for line in lines
    )


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "shared.outbox"]


def connections_opened() -> float:
    return sum(
        sample.value for metric in OPENED.collect() for sample in metric.samples if sample.name.endswith("_total")
    )


async def only_forged(fresh: FreshDatabase) -> bool:
    return await waiting(fresh) == {FORGED: 150}


async def test_an_event_that_waited_for_a_right_leaves_when_the_right_is_given(
    users: Urls, servers: Servers, broker: str, fresh: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_NOT_PERMITTED_HOLD_SECONDS", 1)
    user = str(urlsplit(users["auth"]).username)
    own = permissions.rights()["auth"]
    async with fresh.database.transaction() as conn:
        await outbox.add(conn, an_audit_event())
    async with running(fresh.database, users["auth"]):
        await eventually(lambda: has_failed(fresh))
        try:
            servers.broker.ctl("set_topic_permissions", user, topology.EVENTS, ".*", NOTHING)
            await eventually(lambda: depth(broker, "audit.events.referrals"))
        finally:
            servers.broker.ctl("set_topic_permissions", user, topology.EVENTS, own.publish, own.bind)


async def has_failed(fresh: FreshDatabase) -> bool:
    async with fresh.database.connection() as conn:
        return bool(await conn.fetchval("SELECT count(*) FROM outbox WHERE failures > 0"))


def test_the_definitions_hold_users_of_the_addresses_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in SERVICES:
        monkeypatch.setenv(f"{service.upper()}_AMQP_URL", f"amqp://{service}:secret-of-{service}@mq.example.com/app")
    monkeypatch.setenv("AMQP_URL", "amqp://declarer:s%2Fecret@mq.example.com/app")
    printed = CliRunner().invoke(app, ["definitions"])
    made = orjson.loads(printed.output)
    assert [user["name"] for user in made["users"]] == [*SERVICES, "declarer"]
    assert made["vhosts"] == [{"name": "app"}]
    assert {entry["vhost"] for entry in made["permissions"] + made["topic_permissions"]} == {"app"}
    assert not any(word in printed.output for word in ("secret", "s/ecret", "s%2Fecret"))


def test_definitions_without_a_user_of_its_own_for_each_service_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in SERVICES:
        monkeypatch.delenv(f"{service.upper()}_AMQP_URL", raising=False)
    monkeypatch.setenv("AMQP_URL", "amqp://one:password@mq.example.com/")
    assert "AUTH_AMQP_URL, GATEWAY_AMQP_URL" in str(CliRunner().invoke(app, ["definitions"]).exception)
    for service in SERVICES:
        monkeypatch.setenv(f"{service.upper()}_AMQP_URL", "amqp://one:password@mq.example.com/")
    assert "share a user" in str(CliRunner().invoke(app, ["definitions"]).exception)
    monkeypatch.setenv("AUTH_AMQP_URL", "amqp://mq.example.com/")
    assert "names no user" in str(CliRunner().invoke(app, ["definitions"]).exception)


@pytest.mark.parametrize(("path", "vhost"), [("", "/"), ("/", "/"), ("/%2F", "/"), ("/app", "app"), ("/a%20b", "a b")])
def test_the_virtual_host_of_an_address_is_read_as_the_driver_reads_it(path: str, vhost: str) -> None:
    assert User.of(f"amqp://auth:password@mq.example.com{path}").vhost == vhost
