"""A consumer of one queue, under supervision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from prometheus_client import Counter, Gauge, Histogram

from shared import telemetry, topology
from shared.backoff import Backoff
from shared.bus import ladder, received
from shared.bus.connection import BROKER_ERRORS, RPC_SECONDS, BrokerConnection, close_channel, in_words
from shared.bus.handling import Delivery, Handlers, Style, handle_together, style_of
from shared.bus.publisher import Interrupted, Outgoing, Publisher, Refused
from shared.db import Database, DatabaseUnavailable
from shared.errors import Conflict, Fate, Unavailable, fate_of
from shared.events import Undecodable
from shared.health import Health

log = logging.getLogger(__name__)

_BATCH: Final = 200
_WATCH_SECONDS: Final = 5.0
_OUTAGES: Final = 20
T = TypeVar("T")

HANDLED = Counter("messages_total", "Messages by what became of them", ["queue", "outcome"])
BATCH_SIZE = Histogram(
    "message_batch_size", "Messages handled in one transaction", ["queue"], buckets=(1, 2, 5, 10, 50, 100, 200)
)
IN_FLIGHT = Gauge("messages_in_flight", "Messages delivered and not yet settled", ["queue"])
SESSIONS = Counter("consumer_sessions_total", "Times that a consumer was attached to its queue", ["queue"])


class ConsumerLost(Exception):
    """The broker no longer delivers to us, though nobody asked it to stop."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a consumer is connected to."""

    queue: topology.Queue
    handlers: Handlers
    context: Any
    database: Database
    connection: BrokerConnection
    publisher: Publisher
    health: Health

    @property
    def part(self) -> str:
        """Name the consumer in the health report."""
        return f"consumer {self.queue.name}"

    def check(self) -> None:
        """Refuse to start without a handler for each event that the queue gets."""
        missing = set(self.queue.binds) - set(self.handlers)
        if missing:
            names = ", ".join(sorted(event.__name__ for event in missing))
            raise LookupError(f"{self.queue.name} has no handler for {names}")


class Consumer:
    """Takes messages of one queue to their handlers; each ends settled, on the ladder or among the dead letters."""

    def __init__(self, wiring: Wiring) -> None:
        wiring.check()
        self._wiring = wiring
        self._stopping = asyncio.Event()
        wiring.health.expect(wiring.part)

    def stop(self) -> None:
        """Take no more messages; what is in flight is finished."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume until stopped; a lost session is followed by the next one."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                await _Session(self._wiring, self._stopping).run()
            except (*BROKER_ERRORS, ConsumerLost, Unavailable, Interrupted) as error:
                self._wiring.health.fail(self._wiring.part, f"not consuming: {in_words(error)}")
            except Exception:
                log.exception("the consumer of %s failed and starts again", self._wiring.queue.name)
                self._wiring.health.fail(self._wiring.part, "failed, starts again")
            await _wait(self._stopping, backoff.seconds())


class _Session:
    """One attachment to the queue, from consume to the loss of its channel."""

    def __init__(self, wiring: Wiring, stopping: asyncio.Event) -> None:
        self.wiring = wiring
        self.queue = wiring.queue
        self.stopping = stopping
        self.ends = False
        self.arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()  # None wakes whoever waits at the end
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.unsettled: set[int] = set()
        self.outside: set[asyncio.Task[None]] = set()
        self.channel: Channel

    async def run(self) -> None:
        wiring = self.wiring
        # Who can't do the work leaves it to others: without its tables, as this code needs them, nothing is taken.
        await wiring.database.ping()
        self.channel = await wiring.connection.channel()
        try:
            tag = await self._attach()
            wiring.health.ok(wiring.part, "consuming")
            await self._work_until_over(tag)
        finally:
            for task in self.outside:
                task.cancel()
            if self.outside:
                await asyncio.wait(self.outside)
            # Whatever was not settled goes back to the queue with the channel.
            await close_channel(self.channel)
            IN_FLIGHT.labels(self.queue.name).set(0)

    async def _attach(self) -> str:
        channel = self.channel
        async with asyncio.timeout(RPC_SECONDS):
            await channel.basic_qos(prefetch_count=self.queue.prefetch)
            # Passive: a service looks whether its queue is there, the topology step makes it.
            await channel.queue_declare(self.queue.name, passive=True)
            channel.closing.add_done_callback(self._on_closed)
            channel.on_consumer_cancel_callbacks.add(self._on_cancelled)
            answer = await channel.basic_consume(self.queue.name, self._on_message)
        SESSIONS.labels(self.queue.name).inc()
        return str(answer.consumer_tag)

    async def _work_until_over(self, tag: str) -> None:
        pump = asyncio.create_task(self._pump())
        watch = asyncio.create_task(self._watch())
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            over: set[asyncio.Future[Any]] = {pump, watch, stopping, self.lost}
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() and not self.lost.done():
                await self._drain(pump, tag)
            elif self.lost.done():
                raise ConsumerLost(self.lost.result())
            else:
                for ended in (pump, watch):
                    if ended.done():
                        ended.result()
        finally:
            tasks: tuple[asyncio.Task[Any], ...] = (pump, watch, stopping)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, pump: asyncio.Task[None], tag: str) -> None:
        """Stop the deliveries, finish what has begun; what has not begun goes back with the channel."""
        async with asyncio.timeout(RPC_SECONDS):
            await self.channel.basic_cancel(tag)
        while not self.arrived.empty():
            self.arrived.get_nowait()
        self.ends = True
        self.arrived.put_nowait(None)
        ends: set[asyncio.Future[Any]] = {pump, self.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self.outside:
            await asyncio.wait(self.outside)

    async def _on_message(self, message: DeliveredMessage) -> None:
        self.arrived.put_nowait(message)

    def _on_closed(self, closing: asyncio.Future[object]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._lose(f"the channel was closed ({in_words(error) if error else 'no reason given'})")

    def _on_cancelled(self, _frame: object) -> None:
        self._lose("the broker cancelled the consumer")

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)

    async def _watch(self) -> None:
        """Ask the broker itself, on a fresh channel, whether somebody consumes the queue; a cached answer would lie."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            channel = await self.wiring.connection.channel()
            try:
                async with asyncio.timeout(RPC_SECONDS):
                    answer = await channel.queue_declare(self.queue.name, passive=True)
            finally:
                await close_channel(channel)
            if not answer.consumer_count:
                raise ConsumerLost("the broker knows no consumer of the queue")

    async def _pump(self) -> None:
        """Take what has arrived, as much at a time as there is, to the handlers."""
        while not self.ends:
            messages = [await self.arrived.get()]
            while len(messages) < _BATCH and not self.arrived.empty():
                messages.append(self.arrived.get_nowait())
            await self._handle([message for message in messages if message is not None])

    async def _handle(self, messages: list[DeliveredMessage]) -> None:
        self.unsettled.update(_tag(message) for message in messages)
        IN_FLIGHT.labels(self.queue.name).set(len(self.unsettled))
        together: list[Delivery] = []
        unreadable: list[tuple[DeliveredMessage, Undecodable]] = []
        for message in messages:
            try:
                delivery = self._decoded(message)
            except Undecodable as error:
                unreadable.append((message, error))
                continue
            if style_of(self.wiring.handlers[type(delivery.event)]) is Style.OUTSIDE:
                self._start_outside(delivery)
            else:
                together.append(delivery)
        if together:
            BATCH_SIZE.labels(self.queue.name).observe(len(together))
            await self._handle_together(together)
        for message, problem in unreadable:
            await self._set_aside(_tag(message), message.body, message.header.properties.headers or {}, problem)

    def _decoded(self, message: DeliveredMessage) -> Delivery:
        """Read a message; raises Undecodable."""
        headers = message.header.properties.headers or {}
        envelope = received.read(message)
        if type(envelope.event) not in self.wiring.handlers:
            raise Undecodable(f"{self.queue.name} does not handle {envelope.event.routing_key}")
        return Delivery(envelope, message.body, _tag(message), ladder.attempt_of(headers), headers)

    async def _handle_together(self, deliveries: list[Delivery]) -> None:
        error = await self._failure_of(deliveries)
        if error is None:
            return
        if len(deliveries) == 1:
            await self._settle_failure(deliveries[0], error)
            return
        failed = [(delivery, error) for delivery in deliveries if (error := await self._failure_of([delivery]))]
        # Only now: while the broker takes no copies, each of these ends the session, and messages that could have been
        # handled must not be delivered again and again with them, up to the delivery limit.
        for delivery, error in failed:
            await self._settle_failure(delivery, error)

    async def _failure_of(self, deliveries: list[Delivery]) -> Exception | None:
        """Handle in one transaction and acknowledge; gives why that failed."""
        try:
            repeated = await self._patiently(lambda: self._handled_before(deliveries))
        except ConsumerLost:
            raise  # the session ends, the messages are not to blame: no attempt is counted
        except Exception as error:  # noqa: BLE001  whatever a handler raises, the message must end somewhere
            return error
        HANDLED.labels(self.queue.name, "handled").inc(len(deliveries) - repeated)
        HANDLED.labels(self.queue.name, "repeated").inc(repeated)
        await self._acknowledge(delivery.tag for delivery in deliveries)
        return None

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it; while the database is away, wait with the messages in hand instead of burning their attempts.

        A database that answers again and again, and has no such table each time, is no outage: then the ladder decides.
        """
        for _ in range(_OUTAGES):
            try:
                return await work()
            except DatabaseUnavailable as error:
                self.wiring.health.fail(self.wiring.part, f"waiting for the database: {error.message}")
                await self._database_is_back()
        return await work()

    async def _handled_before(self, deliveries: list[Delivery]) -> int:
        wiring = self.wiring
        return await handle_together(wiring.database, wiring.context, self.queue.name, wiring.handlers, deliveries)

    async def _database_is_back(self) -> None:
        wiring, backoff = self.wiring, Backoff()
        while not self.lost.done() and not self.stopping.is_set():
            await _wait(self.stopping, backoff.seconds())
            try:
                await wiring.database.ping()
            except Unavailable:
                continue
            wiring.health.ok(wiring.part, "consuming")
            return
        raise ConsumerLost("stopped while waiting for the database")

    def _start_outside(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._handle_outside(delivery))
        self.outside.add(task)
        task.add_done_callback(self._outside_done)

    def _outside_done(self, task: asyncio.Task[None]) -> None:
        self.outside.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lose(f"a message could not be settled: {error}")

    async def _handle_outside(self, delivery: Delivery) -> None:
        handler = self.wiring.handlers[type(delivery.event)]
        try:
            with telemetry.use(delivery.trace):
                await self._patiently(lambda: handler(self.wiring.context, delivery.event))
        except ConsumerLost:
            raise
        except Exception as error:  # noqa: BLE001  whatever a handler raises, the message must end somewhere
            await self._settle_failure(delivery, error)
        else:
            HANDLED.labels(self.queue.name, "handled").inc()
            await self._acknowledge([delivery.tag])

    async def _settle_failure(self, delivery: Delivery, error: Exception) -> None:
        fate = fate_of(error)
        if fate is Fate.ACKNOWLEDGE:
            log.info("%s is done already: %s", delivery.event.routing_key, error)
            HANDLED.labels(self.queue.name, "done already").inc()
            await self._acknowledge([delivery.tag])
        elif fate is Fate.DEAD_LETTER or ladder.is_exhausted(delivery.attempt):
            await self._set_aside(delivery.tag, delivery.body, delivery.headers, error)
        else:
            with telemetry.use(delivery.trace):
                expected = isinstance(error, (Unavailable, Conflict))
                log.warning(
                    "%s failed and is tried again: %s",
                    delivery.event.routing_key,
                    error,
                    exc_info=None if expected else error,
                )
            await self._replace(delivery.tag, ladder.to_rung(self.queue, delivery.body, delivery.headers, error))
            HANDLED.labels(self.queue.name, "retried").inc()

    async def _set_aside(self, tag: int, body: bytes, headers: Any, error: Exception) -> None:
        log.error("a message of %s became a dead letter: %s: %s", self.queue.name, type(error).__name__, error)
        await self._replace(tag, ladder.to_dead_letters(self.queue, body, headers, error))
        HANDLED.labels(self.queue.name, "dead").inc()

    async def _replace(self, tag: int, copy: Outgoing) -> None:
        """Publish the copy, and only when it is confirmed acknowledge the original."""
        try:
            await self.wiring.publisher.publish_one(copy)
        except Refused as error:
            raise ConsumerLost(f"{copy.exchange} did not take a message: {error}") from error
        await self._acknowledge([tag])

    async def _acknowledge(self, tags: Iterable[int]) -> None:
        """Acknowledge; if the channel is gone, the messages come again and the inbox knows them."""
        done = sorted(tags)
        self.unsettled.difference_update(done)
        IN_FLIGHT.labels(self.queue.name).set(len(self.unsettled))
        try:
            if not self.unsettled or min(self.unsettled) > done[-1]:
                # Every lower tag is settled: one frame for all of them (docs/messaging.md M2.16).
                await self.channel.basic_ack(done[-1], multiple=True, wait=False)
            else:
                for tag in done:
                    await self.channel.basic_ack(tag, wait=False)
        except BROKER_ERRORS as error:
            log.info("an acknowledgement was lost, the messages will come again: %s", error)


def _tag(message: DeliveredMessage) -> int:
    return message.delivery_tag or 0


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
