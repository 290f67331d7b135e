"""The worker role of a service: relay, consumers, schedules and a health page, started and drained together."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared import inbox, outbox, telemetry
from shared.bus.connection import BrokerConnection
from shared.bus.consumer import Consumer, Wiring
from shared.bus.handling import Handlers
from shared.bus.publisher import Publisher
from shared.db import Database
from shared.errors import Unavailable
from shared.health import Health
from shared.settings import StoreSettings
from shared.topology import Queue
from shared.web import serve_health

log = logging.getLogger(__name__)

# Longer than the ladder plus the time in which a person redrives a dead letter (docs/messaging.md M3.8).
_INBOX_DAYS: Final = 30
_INBOX_SECONDS: Final = 3_600.0
# A schedule that runs for so long without an error works.
_STEADY_SECONDS: Final = 30.0


class WorkerBroken(SystemExit):
    """A part that must run for ever has ended: the process ends too, and whoever keeps it running starts it anew."""


@dataclass(frozen=True, slots=True)
class Work:
    """A queue and who handles its events."""

    queue: Queue
    handlers: Handlers


@dataclass(frozen=True, slots=True)
class Schedule:
    """Something to do again and again; several replicas may do it at the same time, so it takes its own lock."""

    name: str
    seconds: float
    run: Callable[[], Awaitable[object]]


async def run_worker(
    settings: StoreSettings,
    *,
    database: Database,
    context: Any,
    work: Sequence[Work],
    schedules: Sequence[Schedule] = (),
) -> None:
    """Run until SIGTERM or SIGINT, then finish what has begun and stop."""
    health = Health()
    url = settings.amqp_url.get_secret_value()
    consuming = BrokerConnection(url, purpose=f"{settings.service} consume")
    publishing = BrokerConnection(url, purpose=f"{settings.service} publish")
    copies = Publisher(publishing)
    relay = outbox.Relay(database, Publisher(publishing), health)
    consumers = [
        Consumer(Wiring(item.queue, item.handlers, context, database, consuming, copies, health)) for item in work
    ]
    health.expect("relay")

    async def forget_inbox() -> None:
        await inbox.forget_all_before(database, _INBOX_DAYS)

    background = [
        asyncio.create_task(relay.run(), name="relay"),
        asyncio.create_task(serve_health(settings, health, port=settings.worker_port), name="health"),
        *(_repeat(item, health) for item in (*schedules, Schedule("forget inbox", _INBOX_SECONDS, forget_inbox))),
    ]
    consuming_tasks = [
        asyncio.create_task(consumer.run(), name=f"consumer {item.queue.name}")
        for consumer, item in zip(consumers, work, strict=True)
    ]
    ended = await _until_told_to_stop([*consuming_tasks, *background])
    log.info("stopping: finishing what has begun")
    health.fail("process", "stopping")
    for consumer in consumers:
        consumer.stop()
    if consuming_tasks:
        await asyncio.wait(consuming_tasks, timeout=settings.drain_seconds)
    for task in (*consuming_tasks, *background):
        task.cancel()
    await asyncio.gather(*consuming_tasks, *background, return_exceptions=True)
    await consuming.close()
    await publishing.close()
    log.info("stopped")
    if ended:
        raise WorkerBroken(f"{', '.join(ended)} ended, though nobody asked it to")


def _repeat(schedule: Schedule, health: Health) -> asyncio.Task[None]:
    part = f"schedule {schedule.name}"

    async def loop() -> None:
        while True:
            # What runs until the process stops gives no other sign that it works again.
            steady = asyncio.get_running_loop().call_later(_STEADY_SECONDS, health.ok, part)
            with telemetry.use(telemetry.Trace(telemetry.new_request_id(), traceparent=telemetry.new_traceparent())):
                try:
                    await schedule.run()
                    health.ok(part)
                except Unavailable as error:
                    log.warning("%s has to wait: %s", schedule.name, error.message)
                except Exception:
                    log.exception("%s failed and will be tried again", schedule.name)
                    health.fail(part, "failed, will be tried again")
                finally:
                    steady.cancel()
            await asyncio.sleep(schedule.seconds)

    return asyncio.create_task(loop(), name=schedule.name)


async def _until_told_to_stop(tasks: Sequence[asyncio.Task[None]]) -> list[str]:
    """Wait for the signal; gives the names of tasks that ended before it."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    ended = [task for task in tasks if task.done()]
    for task in ended:
        error = None if task.cancelled() else task.exception()
        log.critical("%s ended, though nobody asked it to", task.get_name(), exc_info=error)
    return [task.get_name() for task in ended]
