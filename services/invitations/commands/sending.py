"""The senders: claim, mark as being sent, send, settle; each step committed before the next one begins.

Messages go out concurrently, their steps in the database go in batches. What is in flight when a process dies becomes
`unknown` and is asked of the provider (commands.sweeping); what was only claimed goes back in line.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from prometheus_client import Counter, Gauge

from services.invitations.commands.packing import Parcel, first_of, pack
from services.invitations.commands.settling import settle_answers
from services.invitations.domain import tokens, wording
from services.invitations.domain.deliveries import settle_answer
from services.invitations.domain.invitations import Status
from services.invitations.domain.messages import (
    Accepted,
    BatchProvider,
    NotSent,
    Outcome,
    OutgoingMessage,
    Provider,
    Rejected,
    Unknown,
)
from services.invitations.domain.pacing import Pace
from services.invitations.settings import InvitationsSettings
from services.invitations.store import deliveries, jobs
from services.invitations.store.accounts import quiet_hours_of
from services.invitations.store.deliveries import Answer
from shared.db import Connection, Database, Row
from shared.errors import Unavailable
from shared.sealing import Sealer

log = logging.getLogger(__name__)

_CLAIM: Final = 500
_SETTLE_AT_MOST: Final = 500
# Answers that arrive within this time share a transaction.
_GATHER_SECONDS: Final = 0.01
_RETRY_SECONDS: Final = 1.0
# A longer wait for the provider's pace is spent in the queue and not in a claim.
_LONGEST_WAIT_SECONDS: Final = 2.0
# Our account is refused: nothing of it goes out until somebody has looked.
_ACCOUNT_PAUSE_SECONDS: Final = 60.0
_LONGEST_PAUSE_SECONDS: Final = 600.0

SENT = Counter("invitations_messages_total", "Messages by what the provider answered", ["provider", "outcome"])
IN_FLIGHT = Gauge("invitations_messages_in_flight", "Messages that providers have not answered yet")


@dataclass(frozen=True, slots=True)
class _Sent:
    """An answer that waits to be settled."""

    provider: str
    delivery_id: UUID
    attempt: int
    outcome: Outcome


class Sender:
    """Sends the messages that this process claims; every process has one, whether it takes from the queue or not."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        *,
        sealer: Sealer,
        settings: InvitationsSettings,
        name: str,
    ) -> None:
        self._database = database
        self._providers = providers
        self._sealer = sealer
        self._settings = settings
        self._pace = Pace(settings.messages_per_second, settings.messages_burst)
        self.name = name
        self._in_flight: set[asyncio.Task[None]] = set()
        self._reserved = 0
        self._room = asyncio.Event()
        self._answers: asyncio.Queue[_Sent] = asyncio.Queue()
        self._settled: dict[UUID, asyncio.Future[None]] = {}
        self._failing: set[str] = set()

    @asynccontextmanager
    async def settling(self) -> AsyncIterator[None]:
        """Settle answers while the block runs; at its end, wait for what is in flight."""
        settler = asyncio.create_task(self._settle_forever(), name="settler")
        try:
            yield
        finally:
            if self._in_flight:
                await asyncio.wait(self._in_flight, timeout=self._settings.drain_seconds)
            try:
                async with asyncio.timeout(self._settings.drain_seconds):
                    await self._answers.join()
            except TimeoutError:
                log.warning("answers are left unsettled; the sweeper will ask the providers")
            settler.cancel()
            await asyncio.gather(settler, return_exceptions=True)

    async def run(self) -> None:
        """Send whatever is due, until cancelled."""
        async with asyncio.TaskGroup() as lanes:
            for provider in self._providers.values():
                lanes.create_task(self._run_lane(provider))

    async def send_claimed(self, delivery_ids: Sequence[UUID], until: float | None = None) -> None:
        """Send messages that were claimed for this sender; returns when all are under way or back in line."""
        if not delivery_ids:
            return
        async with self._database.connection() as conn:
            rows = await deliveries.list_outgoing(conn, delivery_ids)
        for name in {row["provider"] for row in rows}:
            lane = [row for row in rows if row["provider"] == name]
            await self._send_all(self._providers[name], lane, until or self._half_a_lease())

    async def send_now(self, delivery_ids: Sequence[UUID], deadline_seconds: float) -> None:
        """Send messages that the caller claimed for this sender; returns when all are settled, or at the deadline.

        What was not begun by then goes back in line, what is in flight is settled in the background.
        """
        until = time.monotonic() + deadline_seconds
        await self._send_and_wait(delivery_ids, until)
        # One message that the provider refuses spoils its whole request: the others of it go out one by one.
        async with self._database.transaction() as conn:
            spoilt = await deliveries.claim_spoilt(conn, delivery_ids, self.name, self._settings.lease_seconds)
            wanted = await _leave_out_ended(conn, spoilt)
        await self._send_and_wait([row["id"] for row in wanted], until)

    async def _send_and_wait(self, delivery_ids: Sequence[UUID], until: float) -> None:
        loop = asyncio.get_running_loop()
        waiting = {delivery_id: loop.create_future() for delivery_id in delivery_ids}
        self._settled.update(waiting)
        try:
            await self.send_claimed(delivery_ids, until)
            if waiting:
                await asyncio.wait(waiting.values(), timeout=max(0.0, until - time.monotonic()))
        finally:
            for delivery_id in waiting:
                self._settled.pop(delivery_id, None)

    async def _run_lane(self, provider: Provider) -> None:
        while True:
            try:
                claimed = await self._claim(provider.name)
                if claimed:
                    await self._send_all(provider, claimed, self._half_a_lease())
                    continue
            except Unavailable as error:
                log.warning("sending by %s has to wait: %s", provider.name, error.message)
            await asyncio.sleep(self._settings.poll_seconds)

    async def _claim(self, provider: str) -> list[Row]:
        async with self._database.transaction() as conn:
            ids = await deliveries.claim_due(conn, provider, self.name, _CLAIM, self._settings.lease_seconds)
            return await _leave_out_ended(conn, ids)

    def _half_a_lease(self) -> float:
        """Say until when to hold on to claims; what has not gone out by then is for whoever comes first."""
        return time.monotonic() + self._settings.lease_seconds / 2

    async def _send_all(self, provider: Provider, rows: Sequence[Row], until: float) -> None:
        """Send claimed messages as fast as the provider's pace and our own room allow; what is left goes back."""
        line = deque(await self._keep_quiet(rows))
        while line:
            async with self._room_until(until) as requests:
                begun, pause = await self._begin(provider, pack(provider, line, requests))
            for _ in range(begun):
                line.popleft()
            if time.monotonic() >= until or pause > _LONGEST_WAIT_SECONDS:
                await self._give_back(line, pause)
                return
            if line:
                await asyncio.sleep(pause)

    async def _keep_quiet(self, rows: Sequence[Row]) -> list[Row]:
        """Put messages of sponsors who are in their quiet hours back until these are over; gives the others."""
        now = datetime.now(UTC)
        later: dict[float, list[Row]] = {}
        for row in rows:
            quiet = quiet_hours_of(row)
            later.setdefault(quiet.pause(now) if quiet else 0.0, []).append(row)
        may_go = later.pop(0.0, [])
        for pause, quiet_rows in later.items():
            await self._give_back(quiet_rows, pause)
        return may_go

    async def _begin(self, provider: Provider, parcels: Sequence[Parcel]) -> tuple[int, float]:
        """Commit that these are being sent, then send; gives how many may go, and the pause before the next may."""
        wanted = sum(len(parcel.rows) for parcel in parcels)
        until = time.monotonic() + self._settings.start_seconds
        async with self._database.transaction() as conn:
            account, now = await deliveries.lock_provider_account(conn, provider.name, self._pace.burst)
            account, granted = account.take(wanted, self._pace, now)
            await deliveries.save_provider_account(conn, provider.name, account)
            parcels = first_of(parcels, granted)
            batch_of = {row["id"]: parcel.batch_id for parcel in parcels for row in parcel.rows}
            begun = await deliveries.begin_sending(conn, batch_of, self.name, self._settings.lease_seconds)
        for parcel in parcels:
            self._start(provider, parcel, begun, until)
        return granted, account.pause_for(wanted - granted, self._pace, now)

    def _start(self, provider: Provider, parcel: Parcel, attempts: Mapping[UUID, int], until: float) -> None:
        rows = [row for row in parcel.rows if row["id"] in attempts]
        for row in parcel.rows:
            if row["id"] not in attempts:  # cancelled meanwhile, or our lease is over
                self._tell_settled(row["id"])
        if rows:
            task = asyncio.create_task(self._send(provider, Parcel(parcel.batch_id, rows), attempts, until))
            self._in_flight.add(task)
            IN_FLIGHT.inc(len(rows))
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._room.set()

    async def _send(self, provider: Provider, parcel: Parcel, attempts: Mapping[UUID, int], until: float) -> None:
        outcomes: Sequence[Outcome]
        try:
            messages = [self._message(row) for row in parcel.rows]
            if time.monotonic() >= until:
                # This process stood still since it said that these are being sent, and others may take it for dead:
                # who writes now may write after the next one.
                outcomes = [NotSent("held up")] * len(messages)
            elif parcel.batch_id is not None and isinstance(provider, BatchProvider):
                outcomes = await provider.send_many(parcel.batch_id, messages)
            else:
                outcomes = [await provider.send(message) for message in messages]
        except Exception as error:
            # A fault of ours may have come after the socket write: only the provider knows.
            log.exception("sending failed in a way that nobody foresaw")
            outcomes = [Unknown(type(error).__name__)] * len(parcel.rows)
        IN_FLIGHT.dec(len(parcel.rows))
        for row, answered in zip(parcel.rows, outcomes, strict=True):
            outcome = _as_meant(row, answered)
            SENT.labels(provider.name, type(outcome).__name__).inc()
            self._answers.put_nowait(_Sent(provider.name, row["id"], attempts[row["id"]], outcome))

    def _message(self, row: Row) -> OutgoingMessage:
        token = self._sealer.open(row["token_sealed"], bound_to=tokens.seal_name(row["invitation_id"])).decode()
        variables = wording.variables_of(
            farmer_name=row["farmer_name"],
            sponsor_name=row["sponsor_name"],
            code_count=row["code_count"],
            deep_link=tokens.link_to(self._settings.link_base_url, token),
        )
        opt_out = tokens.opt_out_link_to(self._settings.link_base_url, token)
        return OutgoingMessage(
            row["id"], row["phone"], wording.render(row["custom_message"], variables, opt_out), variables
        )

    @asynccontextmanager
    async def _room_until(self, until: float) -> AsyncIterator[int]:
        """Wait until a good part of our places is free, and keep them; gives how many requests may go out."""
        most = self._settings.requests_at_once
        while (free := most - len(self._in_flight) - self._reserved) < max(1, most // 2):
            self._room.clear()
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await self._room.wait()
            except TimeoutError:
                free = 0
                break
        self._reserved += free
        try:
            yield free
        finally:
            self._reserved -= free
            self._room.set()

    async def _give_back(self, rows: Sequence[Row], pause: float) -> None:
        ids = [row["id"] for row in rows]
        async with self._database.connection() as conn:
            await deliveries.release_claims(conn, ids, self.name, pause)
        for delivery_id in ids:
            self._tell_settled(delivery_id)

    async def _settle_forever(self) -> None:
        while True:
            sent = [await self._answers.get()]
            await asyncio.sleep(_GATHER_SECONDS)
            while len(sent) < _SETTLE_AT_MOST and not self._answers.empty():
                sent.append(self._answers.get_nowait())
            await self._settle_until_done(sent)
            for item in sent:
                self._answers.task_done()
                self._tell_settled(item.delivery_id)

    async def _settle_until_done(self, sent: Sequence[_Sent]) -> None:
        """Settle, however long the database is away; meanwhile the sweeper may doubt these, which does no harm."""
        while True:
            try:
                await self._settle(sent)
            except Unavailable as error:
                log.warning("settling %d answers has to wait: %s", len(sent), error.message)
            except Exception:
                log.exception("settling %d answers failed and will be tried again", len(sent))
            else:
                return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _settle(self, sent: Sequence[_Sent]) -> None:
        answers = [
            Answer(
                settle_answer(item.delivery_id, item.outcome, attempt=item.attempt), type(item.outcome).__name__.lower()
            )
            for item in sent
        ]
        async with self._database.transaction() as conn:
            await settle_answers(conn, answers)
        for provider in {item.provider for item in sent}:
            await self._learn(provider, [item.outcome for item in sent if item.provider == provider])

    async def _learn(self, provider: str, outcomes: Sequence[Outcome]) -> None:
        """Tell all senders when a provider is in trouble, and when it is well again."""
        failed = [outcome for outcome in outcomes if isinstance(outcome, NotSent | Unknown) and not _is_alone(outcome)]
        if not failed and provider not in self._failing:
            return
        self._failing.discard(provider)
        if failed:
            self._failing.add(provider)
        async with self._database.transaction() as conn:
            account, now = await deliveries.lock_provider_account(conn, provider, self._pace.burst)
            succeeded = sum(isinstance(outcome, Accepted) for outcome in outcomes)
            account = account.learn(succeeded=succeeded, failed=len(failed), pause=_pause_of(failed), now=now)
            await deliveries.save_provider_account(conn, provider, account)

    def _tell_settled(self, delivery_id: UUID) -> None:
        future = self._settled.pop(delivery_id, None)
        if future is not None and not future.done():
            future.set_result(None)


async def _leave_out_ended(conn: Connection, claimed: Sequence[UUID]) -> list[Row]:
    """Take back the messages of invitations that ended while they were in line; gives the others."""
    rows = await deliveries.list_outgoing(conn, claimed) if claimed else []
    ended = [row["invitation_id"] for row in rows if row["status"] != Status.PENDING]
    if ended:
        await deliveries.cancel_unsent(conn, ended)
        await jobs.save_unsent_as_cancelled(conn, ended)
    return [row for row in rows if row["status"] == Status.PENDING]


def _as_meant(row: Row, outcome: Outcome) -> Outcome:
    """Tell a resend that was not sent from a message that is there: both have the words of the first message."""
    if row["ordinal"] > 1 and isinstance(outcome, Accepted) and outcome.duplicate:
        return Rejected("DUPLICATE", "the provider has sent the same message to this phone and does not repeat it yet")
    return outcome


def _is_alone(outcome: Outcome) -> bool:
    """Say whether only the batch was refused: nothing is wrong with the provider."""
    return isinstance(outcome, NotSent) and outcome.alone


def _pause_of(failed: Sequence[Outcome]) -> float | None:
    """Give the longest pause that the provider asked for, or that a refused account calls for."""
    pauses = [
        _ACCOUNT_PAUSE_SECONDS if outcome.account else min(outcome.retry_after or 0.0, _LONGEST_PAUSE_SECONDS)
        for outcome in failed
        if isinstance(outcome, NotSent)
    ]
    return max(pauses, default=None)
