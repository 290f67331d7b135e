"""A connection to the broker that is opened when it is needed and opened anew after it was lost.

Channels are those of aiormq, the layer that aio-pika itself stands on: its own channels add a wait per message and
callbacks that outlive a cancelled opening (both measured).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, cast

import aiormq
from aiormq.channel import Channel
from aiormq.connection import Connection
from pamqp.common import FieldTable
from prometheus_client import Counter
from yarl import URL

from shared.errors import Unavailable

log = logging.getLogger(__name__)

# The broker is given up after (heartbeat + 1) * 3 s of silence, measured; the default of 60 would mean three minutes.
_HEARTBEAT_SECONDS: Final = 10
_CONNECT_SECONDS: Final = 10.0
# A remote call that times out closes its channel (aiormq), so it must be generous.
RPC_SECONDS: Final = 15.0

OPENED = Counter("broker_connections_opened_total", "Connections to the broker that were opened", ["purpose"])

# aiormq reports a closed channel as RuntimeError.
BROKER_ERRORS: Final = (aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError, OSError, TimeoutError)


class BrokerUnavailable(Unavailable):
    """The broker does not answer."""

    code = "BROKER_UNAVAILABLE"
    message = "The message broker is not available. Try again later."


class BrokerConnection:
    """One connection for one purpose; a process has one to publish and one to consume.

    Under a memory or disk alarm the broker stops reading from connections that publish, and with them everything else
    on the same connection would hang (docs/messaging.md M1.4).
    """

    def __init__(self, url: str, *, purpose: str) -> None:
        self._url = URL(url).update_query(heartbeat=_HEARTBEAT_SECONDS)
        self._purpose = purpose
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()

    async def channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel, and the connection under it if need be; raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS), self._opening:
                if self._connection is None or self._connection.is_closed:
                    self._connection = await self._connect()
                # Without on_return_raises a message that no queue takes counts as published (docs/messaging.md M2.1).
                channel = await self._connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
                return cast("Channel", channel)
        except BROKER_ERRORS as error:
            await self.close()
            raise BrokerUnavailable(f"The message broker is not available ({in_words(error)}).") from error

    async def close(self) -> None:
        """Close the connection; what was opened on it is closed with it."""
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed:
            return
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await connection.close()
        except BROKER_ERRORS as error:
            log.info("the broker connection to %s did not close cleanly: %s", self._purpose, in_words(error))

    async def _connect(self) -> Connection:
        properties: FieldTable = {"connection_name": f"partner-hub {self._purpose}"}
        connection = await aiormq.connect(self._url, client_properties=properties)
        OPENED.labels(self._purpose).inc()
        return connection


async def close_channel(channel: Channel) -> None:
    """Close a channel that may be closed already."""
    if channel.is_closed:
        return
    try:
        async with asyncio.timeout(RPC_SECONDS):
            await channel.close()
    except BROKER_ERRORS as error:
        log.debug("a channel did not close cleanly: %s", error)


def in_words(error: BaseException) -> str:
    """Say what went wrong; some errors of the driver have no text."""
    return str(error).strip() or type(error).__name__
