"""Broker and database are killed, frozen and cut off under load; afterwards the account must balance."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
import pytest

from local import infrastructure
from shared import topology
from shared.bus.declare import declare
from shared.db import Connection
from shared.errors import Unavailable
from shared.events import UserRegistered
from shared.worker import Work
from tests.faults.ledger import QUEUE, Ledger, take_effect
from tests.support.eventually import eventually
from tests.support.messages import depth
from tests.support.running import running

# How long a message may stay unacknowledged, and how often the broker looks, in milliseconds.
PATIENCE = "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {})."


async def test_broker_killed_and_restarted_under_load(breakable: infrastructure.Servers, ledger: Ledger) -> None:
    url = breakable.amqp_url
    async with running(ledger.database, url, work=ledger.work) as parts:
        async with ledger.traffic():
            await asyncio.sleep(1)
            await asyncio.to_thread(breakable.broker.kill)
            await eventually(lambda: not parts.health.is_ready, what="readiness turning red")
            accepted, _, _ = await ledger.counts()
            await eventually(lambda: intents_are_more_than(ledger, accepted), what="work accepted with the broker away")
            await asyncio.sleep(1)
            await asyncio.to_thread(breakable.broker.start)
            await asyncio.sleep(1)
        await eventually(ledger.balanced)
        await eventually(lambda: parts.health.is_ready)
    await ledger.check(url)


async def test_all_connections_closed_by_the_broker_under_load(
    breakable: infrastructure.Servers, ledger: Ledger
) -> None:
    url = breakable.amqp_url
    async with running(ledger.database, url, work=ledger.work):
        async with ledger.traffic():
            for _ in range(2):
                await asyncio.sleep(0.5)
                await asyncio.to_thread(breakable.broker.ctl, "close_all_connections", "closed by the test")
        await eventually(ledger.balanced)
    await ledger.check(url)


async def test_queue_deleted_under_its_consumer_turns_readiness_red_until_it_is_back(
    breakable: infrastructure.Servers, ledger: Ledger
) -> None:
    url = breakable.amqp_url
    async with running(ledger.database, url, work=ledger.work) as parts:
        await eventually(lambda: parts.health.is_ready)
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel()
            await channel.queue_delete(QUEUE.name)
        await eventually(lambda: not parts.health.is_ready)
        await ledger.decide(10)  # refused by the broker while the queue is away, so it waits in the outbox
        await asyncio.sleep(1)
        await declare(url)
        await eventually(ledger.balanced)
        await eventually(lambda: parts.health.is_ready)
    await ledger.check(url)


async def test_while_the_broker_blocks_publishers_work_is_accepted_and_consuming_goes_on(
    breakable: infrastructure.Servers, ledger: Ledger
) -> None:
    url = breakable.amqp_url
    await ledger.decide(500)
    async with running(ledger.database, url):  # the relay alone fills the queue
        await eventually(lambda: depth_is(url, 500))
    await asyncio.to_thread(breakable.broker.ctl, "set_vm_memory_high_watermark", "0.00001")
    try:
        async with running(ledger.database, url, work=ledger.work):
            await ledger.decide(500)
            await eventually(lambda: effects_are_at_least(ledger, 500), what="consuming while publishers are blocked")
            assert not await ledger.balanced(), "the broker was meant to take nothing"
            await asyncio.to_thread(breakable.broker.ctl, "set_vm_memory_high_watermark", "0.6")
            await eventually(ledger.balanced)
    finally:
        await asyncio.to_thread(breakable.broker.ctl, "set_vm_memory_high_watermark", "0.6")
    await ledger.check(url)


async def test_broker_killed_while_messages_wait_on_a_rung_of_the_ladder(
    breakable: infrastructure.Servers, ledger: Ledger
) -> None:
    url, is_away = breakable.amqp_url, True

    async def handle(context: Any, conn: Connection, event: UserRegistered) -> None:
        if is_away:
            raise Unavailable
        await take_effect(context, conn, event)

    async with running(ledger.database, url, work=[Work(QUEUE, dict.fromkeys(QUEUE.binds, handle))]):
        await ledger.decide(20)
        await eventually(lambda: all_wait_on_a_rung(url, 20), what="messages on the ladder")
        await asyncio.to_thread(breakable.broker.kill)
        is_away = False
        await asyncio.to_thread(breakable.broker.start)
        await eventually(ledger.balanced, within=90)  # the second rung is half a minute long
    await ledger.check(url)


async def test_a_message_that_the_broker_takes_back_from_a_slow_handler_has_one_effect(
    breakable: infrastructure.Servers, ledger: Ledger
) -> None:
    """It gives up on an unacknowledged message after half an hour; here after two seconds."""
    begun = 0

    async def handle(context: Any, conn: Connection, event: UserRegistered) -> None:
        nonlocal begun
        begun += 1
        await take_effect(context, conn, event)
        if begun == 1:
            await asyncio.sleep(120)

    await asyncio.to_thread(breakable.broker.ctl, "eval", PATIENCE.format(2_000, 1_000))
    try:
        work = [Work(QUEUE, dict.fromkeys(QUEUE.binds, handle))]
        async with running(ledger.database, breakable.amqp_url, work=work):
            await ledger.decide(3)
            await eventually(ledger.balanced)
    finally:
        await asyncio.to_thread(breakable.broker.ctl, "eval", PATIENCE.format(1_800_000, 60_000))
    assert begun > 3
    await ledger.check(breakable.amqp_url)


async def test_database_killed_and_restarted_under_load_burns_no_attempts(
    breakable: infrastructure.Servers, ledger: Ledger
) -> None:
    url = breakable.amqp_url
    async with running(ledger.database, url, work=ledger.work) as parts:
        async with ledger.traffic():
            await asyncio.sleep(1)
            await asyncio.to_thread(breakable.postgres.kill)
            await eventually(lambda: not parts.health.is_ready)
            await asyncio.sleep(2)
            assert await depth(url, "invitations.retry.5s") == 0
            await asyncio.to_thread(breakable.postgres.start)
            await asyncio.sleep(1)
        await eventually(ledger.balanced)
        await eventually(lambda: parts.health.is_ready)
    await ledger.check(url)


@pytest.mark.slow
async def test_frozen_broker_is_noticed_and_what_waited_arrives_afterwards(
    breakable: infrastructure.Servers, ledger: Ledger
) -> None:
    url = breakable.amqp_url
    async with running(ledger.database, url, work=ledger.work) as parts:
        async with ledger.traffic():
            await asyncio.sleep(1)
            await asyncio.to_thread(breakable.broker.pause)
            try:
                await eventually(lambda: not parts.health.is_ready, within=45, what="noticing a frozen broker")
            finally:
                await asyncio.to_thread(breakable.broker.resume)
            await asyncio.sleep(1)
        await eventually(ledger.balanced, within=90)
    await ledger.check(url)


async def depth_is(url: str, count: int, queue: str = QUEUE.name) -> bool:
    return await depth(url, queue) == count


async def all_wait_on_a_rung(url: str, count: int) -> bool:
    """On whichever: what stays unseen on the first one for its five seconds is on the next."""
    return sum([await depth(url, f"invitations.retry.{rung.name}") for rung in topology.LADDER]) == count


async def intents_are_more_than(ledger: Ledger, count: int) -> bool:
    intents, _, _ = await ledger.counts()
    return intents > count


async def effects_are_at_least(ledger: Ledger, count: int) -> bool:
    _, effects, _ = await ledger.counts()
    return effects >= count
