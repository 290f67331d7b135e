"""The topology step: makes in the broker what shared.topology describes. Safe to run again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, ExchangeType

from shared.bus.connection import BROKER_ERRORS, in_words
from shared.topology import Topology, topology

log = logging.getLogger(__name__)

_TRY_SECONDS: Final = 2.0
# RabbitMQ 3.10.8 killed within a second after a declaration came back with queues that have no leader, measured; so
# this step does not report success before that moment has passed.
_SETTLE_SECONDS: Final = 2.0


class TopologyRefused(SystemExit):
    """The broker holds something of the same name with other arguments."""


async def declare(url: str, *, wait_seconds: float = 60.0) -> Topology:
    """Declare everything; waits for a broker that is not up yet."""
    plan = topology()
    connection = await _patiently(lambda: aio_pika.connect(url, timeout=10), wait_seconds)
    async with connection:
        channel = await connection.channel()
        try:
            await _declare(channel, plan)
        except aio_pika.exceptions.ChannelPreconditionFailed as error:
            raise TopologyRefused(
                f"The broker holds a queue or exchange with other arguments: {error}. Arguments can't be changed: "
                "let it run empty, delete it, and run this step again."
            ) from error
    await asyncio.sleep(_SETTLE_SECONDS)
    return plan


async def _declare(channel: AbstractChannel, plan: Topology) -> None:
    exchanges = {}
    for exchange in plan.exchanges:
        exchanges[exchange.name] = await channel.declare_exchange(
            exchange.name, ExchangeType(exchange.type), durable=True
        )
    queues = {}
    for queue in plan.queues:
        queues[queue.name] = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
    for binding in plan.bindings:
        await queues[binding.queue].bind(exchanges[binding.exchange], binding.routing_key)


async def _patiently(connect: Callable[[], Awaitable[AbstractConnection]], wait_seconds: float) -> AbstractConnection:
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        try:
            return await connect()
        except BROKER_ERRORS as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            log.info("the broker is not there yet: %s", in_words(error))
            await asyncio.sleep(_TRY_SECONDS)
