"""What the gateway reacts to: sessions that end early and accounts that lose something."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from services.gateway.context import Gateway
from services.gateway.domain.revocations import KEPT_SECONDS, Grants, Standing
from shared.bus.connection import BrokerConnection
from shared.bus.stream import follow
from shared.events import Envelope, SessionsRevoked, UserChanged
from shared.topology import GATEWAY_REVOCATIONS

_FORGET_SECONDS: Final = 60.0
# A stream that has said nothing for so long has told what is past.
_QUIET_SECONDS: Final = 0.1


async def revoke_sessions(gateway: Gateway, envelope: Envelope) -> None:
    """Refuse the tokens of the named sessions, or all older ones of the account."""
    event = envelope.event
    assert isinstance(event, SessionsRevoked)  # noqa: S101  entered for this type only
    at = event.revoked_at.timestamp()
    for session_id in event.session_ids:
        gateway.revocations.revoke_session(str(session_id), at)
    if not event.session_ids:
        gateway.revocations.revoke_account(event.user_id, at)
    gateway.verifier.forget(event.user_id)


async def change_account(gateway: Gateway, envelope: Envelope) -> None:
    """Refuse older tokens that claim more than the account still has; all of them once it is disabled."""
    event = envelope.event
    assert isinstance(event, UserChanged)  # noqa: S101  entered for this type only
    at = envelope.time.timestamp()
    alive = event.is_active and event.status == "active"
    if not alive:
        gateway.revocations.revoke_account(event.user_id, at)
    grants: Grants = "all" if event.on_behalf_of == "all" else frozenset(event.on_behalf_of)
    standing = Standing(frozenset(event.roles) if alive else frozenset(), grants, at)
    gateway.revocations.change_account(event.user_id, standing)
    gateway.verifier.forget(event.user_id)


HANDLERS: Final[dict[type[Any], Callable[[Gateway, Envelope], Awaitable[None]]]] = {
    SessionsRevoked: revoke_sessions,
    UserChanged: change_account,
}


async def follow_revocations(gateway: Gateway) -> None:
    """Read the stream of revocations, from as long ago as a token can live, until cancelled."""
    connection = BrokerConnection(gateway.settings.amqp_url.get_secret_value(), purpose="gateway revocations")

    async def handle(envelope: Envelope) -> None:
        await HANDLERS[type(envelope.event)](gateway, envelope)

    try:
        await follow(
            GATEWAY_REVOCATIONS,
            handle,
            since=timedelta(seconds=KEPT_SECONDS),
            connection=connection,
            health=gateway.health,
        )
    finally:
        await connection.close()


async def catch_up(gateway: Gateway, *, seconds: float) -> None:
    """Wait until the stream has told what was revoked before this replica started, for so long at most.

    A broker that is away is not waited for: signing in and working must go on without it, and a token that was revoked
    meanwhile lives ten minutes at most.
    """
    part = f"stream {GATEWAY_REVOCATIONS.name}"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while gateway.health.report().get(part, "starting") == "starting":  # noqa: ASYNC110 (health calls nobody)
                await asyncio.sleep(_QUIET_SECONDS / 10)
            taken = -1
            while gateway.health.is_ready and taken != gateway.revocations.taken:
                taken = gateway.revocations.taken
                await asyncio.sleep(_QUIET_SECONDS)


async def forget_revocations(gateway: Gateway) -> None:
    """Drop what is too old to matter, once a minute, until cancelled."""
    while True:
        await asyncio.sleep(_FORGET_SECONDS)
        gateway.revocations.forget(time.time())
