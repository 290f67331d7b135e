"""The queues of a service over HTTP: who may look, what is done, what evidence stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from shared import topology, web
from shared.bus.publisher import Outgoing
from shared.db import Database
from shared.events import AuthAudit
from shared.queue_desk import queue_router
from shared.settings import StoreSettings
from tests.support.asgi import calling
from tests.support.builders import an_envelope
from tests.support.databases import Databases
from tests.support.messages import depth, publishing, to_queue
from tests.support.tokens import Issuer

QUEUES = "/api/v1/auth/queues"
AWAY = "amqp://nobody:none@127.0.0.1:1/"


class Settings(StoreSettings):
    """Any service's settings."""

    service = "auth"


@dataclass
class Held:
    """What the service holds."""

    database: Database


@dataclass
class Desk:
    """A service with its desk, and an admin in front of it."""

    http: httpx.AsyncClient
    database: Database
    admin: dict[str, str]
    sponsor: dict[str, str]

    async def evidence(self) -> list[dict[str, Any]]:
        """Give the audit events that wait to be published."""
        async with self.database.connection() as conn:
            rows = await conn.fetch("SELECT envelope FROM outbox ORDER BY id")
        return [orjson.loads(row["envelope"])["data"] for row in rows]


@asynccontextmanager
async def desk_at(url: str, database: Database, issuer: Issuer) -> AsyncIterator[Desk]:
    @asynccontextmanager
    async def open_context() -> AsyncIterator[Held]:
        yield Held(database)

    app = web.create_app(
        Settings(amqp_url=SecretStr(url), database_url=SecretStr("postgresql://unused")),
        title="a service",
        routers=[queue_router(QUEUES, "auth", AuthAudit, SecretStr(url))],
        open_context=open_context,
        verifier=issuer.verifier(),
    )
    async with calling(app) as http:
        yield Desk(http, database, issuer.headers(166, "Admin"), issuer.headers(6, "Sponsor", "Auditor"))


@pytest.fixture
async def desk(broker: str, databases: Databases, issuer: Issuer) -> AsyncIterator[Desk]:
    fresh = await databases.make("auth")
    async with desk_at(broker, fresh.database, issuer) as made:
        yield made


async def set_aside(broker: str, number: int) -> list[str]:
    """Put so many letters among the dead; gives their ids."""
    ids = []
    async with publishing(broker) as publisher:
        for _ in range(number):
            envelope, body = an_envelope(1)
            exchange = topology.dead_letter_exchange_of("auth")
            headers = {"queue": "auth.events", "reason": "ValueError: no such thing", "attempt": 4}
            await publisher.publish_one(
                Outgoing(exchange, "auth.events", body, message_id=str(envelope.id), headers=headers)
            )
            ids.append(str(envelope.id))
    return ids


async def test_every_queue_of_the_service_shows_what_waits_and_who_consumes(desk: Desk, broker: str) -> None:
    async with publishing(broker) as publisher:
        for number in range(3):
            await publisher.publish_one(to_queue("auth.events", b"%d" % number))
    shown = (await desk.http.get(QUEUES, headers=desk.admin)).json()
    assert shown["service"] == "auth"
    assert [(queue["name"], queue["kind"]) for queue in shown["items"]] == [
        ("auth.events", "work"),
        *[(f"auth.retry.{rung}", "retry") for rung in ("5s", "30s", "5m", "1h")],
        ("auth.dead", "dead"),
    ]
    assert (shown["items"][0]["messages"], shown["items"][0]["consumers"]) == (3, 0)
    assert await depth(broker, "auth.events") == 3, "looking takes nothing"


async def test_a_queue_that_the_broker_has_not_is_shown_as_missing_and_hides_no_other(
    desk: Desk, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = topology.Queue("auth.nothing", ())
    monkeypatch.setattr(topology, "QUEUES", (missing, topology.AUTH_EVENTS))
    async with publishing(broker) as publisher:
        await publisher.publish_one(to_queue("auth.events", b"1"))
    shown = (await desk.http.get(QUEUES, headers=desk.admin)).json()["items"]
    assert [(queue["name"], queue["messages"]) for queue in shown[:2]] == [("auth.nothing", None), ("auth.events", 1)]
    assert len(shown) == 7


async def test_dead_letters_are_listed_with_their_reason_and_one_is_shown_whole(desk: Desk, broker: str) -> None:
    ids = await set_aside(broker, 3)
    listed = (await desk.http.get(f"{QUEUES}/dead-letters?limit=2", headers=desk.admin)).json()
    assert [letter["id"] for letter in listed["items"]] == ids[:2]
    assert listed["waiting"] == 3
    assert listed["items"][0]["reason"] == "ValueError: no such thing"
    assert "body" not in listed["items"][0]
    whole = (await desk.http.get(f"{QUEUES}/dead-letters/{ids[1]}", headers=desk.admin)).json()
    assert "auth.user.registered.v1" in whole["body"]
    gone = await desk.http.get(f"{QUEUES}/dead-letters/{'0' * 8}", headers=desk.admin)
    assert (gone.status_code, gone.json()["code"]) == (404, "DEAD_LETTER_NOT_FOUND")
    assert await desk.evidence() == [], "looking changes nothing"


async def test_one_letter_or_all_are_redriven_or_dropped_and_each_act_leaves_evidence(desk: Desk, broker: str) -> None:
    first, second, *_ = await set_aside(broker, 4)
    one = await desk.http.post(f"{QUEUES}/dead-letters/redrive", json={"id": second}, headers=desk.admin)
    assert one.json() == {"success": True, "count": 1}
    assert (await depth(broker, "auth.events"), await depth(broker, "auth.dead")) == (1, 3)
    dropped = await desk.http.post(f"{QUEUES}/dead-letters/drop", json={"id": first}, headers=desk.admin)
    assert dropped.json()["count"] == 1
    rest = await desk.http.post(f"{QUEUES}/dead-letters/redrive", json={"all": True}, headers=desk.admin)
    assert rest.json()["count"] == 2
    assert (await depth(broker, "auth.events"), await depth(broker, "auth.dead")) == (3, 0)
    evidence = await desk.evidence()
    assert [(event["action"], event["severity"], event["outcome"]) for event in evidence] == [
        ("auth.dead_letters.redrive_requested", "notice", "success"),
        ("auth.dead_letters.drop_requested", "warning", "success"),
        ("auth.dead_letters.redrive_requested", "notice", "success"),
    ]
    assert evidence[0]["details"] == {
        "letter": second,
        "waiting": 4,
        "event_type": "auth.user.registered.v1",
        "queue": "auth.events",
    }
    assert evidence[2]["details"] == {"letter": "all", "waiting": 2}
    assert {event["actor"]["id"] for event in evidence} == {166}


async def test_only_an_admin_sees_and_settles_and_a_choice_must_be_clear(desk: Desk, broker: str) -> None:
    (letter,) = await set_aside(broker, 1)
    for method, path in (
        ("GET", QUEUES),
        ("GET", f"{QUEUES}/dead-letters"),
        ("GET", f"{QUEUES}/dead-letters/{letter}"),
        ("POST", f"{QUEUES}/dead-letters/redrive"),
        ("POST", f"{QUEUES}/dead-letters/drop"),
    ):
        body = {"json": {"all": True}} if method == "POST" else {}
        assert (await desk.http.request(method, path, **body)).status_code == 401  # type: ignore[arg-type]
        assert (await desk.http.request(method, path, headers=desk.sponsor, **body)).status_code == 403  # type: ignore[arg-type]
    for unclear in ({}, {"id": letter, "all": True}, {"id": ""}, {"everything": True}):
        answer = await desk.http.post(f"{QUEUES}/dead-letters/drop", json=unclear, headers=desk.admin)
        assert answer.status_code == 422
    assert await depth(broker, "auth.dead") == 1
    assert await desk.evidence() == []


async def test_without_a_broker_the_desk_says_so_and_writes_nothing(databases: Databases, issuer: Issuer) -> None:
    fresh = await databases.make("auth")
    async with desk_at(AWAY, fresh.database, issuer) as desk:
        for answer in (
            await desk.http.get(QUEUES, headers=desk.admin),
            await desk.http.post(f"{QUEUES}/dead-letters/drop", json={"all": True}, headers=desk.admin),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "BROKER_UNAVAILABLE")
        assert await desk.evidence() == []
