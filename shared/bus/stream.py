"""Reading a stream: every replica sees every recent event, also those from before it started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from aiormq.abc import DeliveredMessage
from pamqp.common import FieldTable

from shared.backoff import Backoff
from shared.bus import received
from shared.bus.connection import BROKER_ERRORS, RPC_SECONDS, BrokerConnection, close_channel, in_words
from shared.errors import Unavailable
from shared.events import Envelope, Undecodable
from shared.health import Health
from shared.topology import Stream

log = logging.getLogger(__name__)

_PREFETCH: Final = 500
_WATCH_SECONDS: Final = 5.0


async def follow(
    stream: Stream,
    handler: Callable[[Envelope], Awaitable[None]],
    *,
    since: timedelta,
    connection: BrokerConnection,
    health: Health,
) -> None:
    """Give the handler every event from so long ago on, until cancelled; after a lost session it sees events again."""
    part = f"stream {stream.name}"
    health.expect(part)
    backoff = Backoff()
    while True:
        try:
            await _session(stream, handler, since, connection, lambda: health.ok(part, "following"))
        except (*BROKER_ERRORS, Unavailable) as error:
            health.fail(part, f"not following: {in_words(error)}")
        except Exception:
            log.exception("reading %s failed and starts again", stream.name)
            health.fail(part, "failed, starts again")
        await asyncio.sleep(backoff.seconds())


async def _session(
    stream: Stream,
    handler: Callable[[Envelope], Awaitable[None]],
    since: timedelta,
    connection: BrokerConnection,
    attached: Callable[[], None],
) -> None:
    channel = await connection.channel()
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(*_: object) -> None:
        if not over.done():
            over.set_exception(ConnectionError("the stream's channel or consumer is gone"))

    async def on_message(message: DeliveredMessage) -> None:
        try:
            await handler(received.read(message))
        except Undecodable as error:
            log.warning("an event of %s is skipped: %s", stream.name, error)
        await channel.basic_ack(message.delivery_tag or 0, wait=False)

    try:
        async with asyncio.timeout(RPC_SECONDS):
            await channel.basic_qos(prefetch_count=_PREFETCH)
            channel.closing.add_done_callback(end)
            channel.on_consumer_cancel_callbacks.add(end)
            arguments: FieldTable = {"x-stream-offset": datetime.now(UTC) - since}
            await channel.basic_consume(stream.name, on_message, arguments=arguments)
        attached()
        while True:
            done, _ = await asyncio.wait({over}, timeout=_WATCH_SECONDS)
            if done:
                over.result()
            async with asyncio.timeout(RPC_SECONDS):
                # A broker that hangs answers nothing, and only a question finds that out before the heartbeat does.
                await channel.queue_declare(stream.name, passive=True)
    finally:
        await close_channel(channel)
        if over.done():
            over.exception()
