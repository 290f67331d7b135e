"""Pushes delivery reports to the client, as late, as often and in the order that the knobs say."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import httpx

from sandbox.messaging_provider.faults import Faults

logger = logging.getLogger(__name__)

SENDERS = 8
ATTEMPTS = 4  # Verimor tries a report three more times; Twilio retries as well.


@dataclass(frozen=True, slots=True)
class Report:
    """One report, ready to be posted; any status from 200 up to this one says that it was taken."""

    url: str
    headers: dict[str, str]
    body: bytes
    highest_status: int = 299
    attempt: int = 1


class Reports:
    """The queue of reports that are due, and the tasks that post them."""

    def __init__(self) -> None:
        self._due: asyncio.Queue[tuple[Report, float]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self.delivered = 0

    def start(self) -> None:
        """Start posting."""
        # No certificates are checked: the client under test is on this machine and speaks plain HTTP.
        self._client = httpx.AsyncClient(trust_env=False, timeout=10.0, verify=False)  # noqa: S501
        self._tasks = [asyncio.create_task(self._post_reports()) for _ in range(SENDERS)]

    async def stop(self) -> None:
        """Forget what is not yet posted."""
        self.forget()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._client.aclose()

    def forget(self) -> None:
        """Drop every report that is still due."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        while not self._due.empty():
            self._due.get_nowait()

    def schedule(self, faults: Faults, steps: Sequence[Callable[[], Report | None]]) -> None:
        """Plan the reports of one message; each step brings its status about and gives the report of it."""
        knobs = faults.knobs
        ordered = list(reversed(steps)) if knobs.reports_out_of_order else list(steps)
        for position, step in enumerate(ordered, start=1):
            copies = 2 if faults.happens(knobs.report_duplicate_rate) else 1
            self._later(knobs.report_delay_seconds * position, step, copies, knobs.report_retry_seconds)

    def _later(self, delay: float, step: Callable[[], Report | None], copies: int, retry_seconds: float) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            report = step()
            for _ in range(copies if report else 0):
                assert report is not None  # noqa: S101 - for the type checker
                self._due.put_nowait((report, retry_seconds))

        timer = asyncio.get_running_loop().call_later(delay, fire)
        self._timers.add(timer)

    async def _post_reports(self) -> None:
        while True:
            report, retry_seconds = await self._due.get()
            if await _post(self._client, report):
                self.delivered += 1
            elif report.attempt < ATTEMPTS:
                again = replace(report, attempt=report.attempt + 1)
                self._later(retry_seconds, partial(_same, again), 1, retry_seconds)


def _same(report: Report) -> Report:
    return report


async def _post(client: httpx.AsyncClient, report: Report) -> bool:
    try:
        response = await client.post(report.url, content=report.body, headers=report.headers)
    except httpx.HTTPError as error:
        logger.info("report not delivered: %s", type(error).__name__)
        return False
    return 200 <= response.status_code <= report.highest_status  # noqa: PLR2004 - HTTP's first status of success
