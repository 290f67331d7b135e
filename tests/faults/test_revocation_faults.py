"""A user is disabled while the broker is away: nothing of it is lost, and the gateway refuses as soon as it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from local import infrastructure
from local.queues import purge
from services.auth.app import create_app, own_keys
from services.auth.context import Context, make_context
from services.auth.settings import AuthSettings
from services.auth.store import accounts, credentials
from shared.identity import TokenVerifier
from tests.auth.conftest import API, PASSWORD, settings_for
from tests.gateway.raw import raw_service
from tests.gateway.recording import CLOSED, record
from tests.gateway.running import running_gateway
from tests.support.asgi import calling
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.running import running

ADMIN, PLAYER = "admin@example.com", "player@example.com"


@pytest.fixture
async def settings(breakable: infrastructure.Servers) -> AsyncIterator[AuthSettings]:
    await purge(breakable.amqp_url)
    databases = Databases(breakable.postgres_url)
    yield settings_for(await databases.make("auth"))
    await databases.drop_all()
    await databases.drop_templates()


@dataclass
class Trust:
    """The tokens of a running auth, checked with its keys."""

    context: Context

    def verifier(self) -> TokenVerifier:
        rules = self.context.rules
        return TokenVerifier(own_keys(self.context), issuer=rules.issuer, audience=rules.audience)


async def an_account(context: Context, email: str, role: str) -> int:
    async with context.database.transaction() as conn:
        made = await accounts.insert_account(
            conn, email=email, full_name="Deniz", roles=frozenset({role}), now=context.clock()
        )
        await credentials.save_password(conn, made.id, await context.hasher.hash(PASSWORD), context.clock())
    return made.id


async def a_token(client: httpx.AsyncClient, email: str) -> dict[str, str]:
    answer = await client.post(f"{API}/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.mark.parametrize("gateway_starts", ["before", "after"])
async def test_a_user_who_is_disabled_while_the_broker_is_away_is_refused_when_it_is_back(
    breakable: infrastructure.Servers, settings: AuthSettings, gateway_starts: str
) -> None:
    context = make_context(settings)
    await an_account(context, ADMIN, "Admin")
    player_id = await an_account(context, PLAYER, "Player")
    url = breakable.amqp_url
    async with (
        calling(create_app(settings, context)) as auth,
        running(context.database, url),
        raw_service(record) as service,
    ):
        admin, player = await a_token(auth, ADMIN), await a_token(auth, PLAYER)

        async def is_refused(client: httpx.AsyncClient) -> bool:
            answer = await client.get(CLOSED, headers=player)
            return answer.status_code == 401 and answer.json()["code"] == "SESSION_REVOKED"

        async def disable() -> None:
            done = await auth.patch(f"{API}/users/{player_id}", json={"is_active": False}, headers=admin)
            assert done.status_code == 200, "the broker is not asked"

        gateway = running_gateway(service.url, issuer=Trust(context), amqp_url=url)
        if gateway_starts == "before":
            async with gateway as standing, standing.client() as client:
                await eventually(lambda: standing.gateway.health.is_ready, what="a gateway that follows")
                await asyncio.to_thread(breakable.broker.kill)
                await disable()
                assert not await is_refused(client), "nobody has told the gateway yet; ten minutes are the most"
                await asyncio.to_thread(breakable.broker.start)
                await eventually(lambda: is_refused(client), within=60, what="the refusal")
        else:
            await asyncio.to_thread(breakable.broker.kill)
            await disable()
            await asyncio.to_thread(breakable.broker.start)
            async with gateway as newcomer, newcomer.client() as client:
                await eventually(lambda: is_refused(client), within=60, what="the refusal")
