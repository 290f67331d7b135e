"""What nobody waits for: lost claims, doubtful sends, expired invitations, finished jobs, old keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final
from uuid import UUID

from services.invitations.commands import bulk, evidence
from services.invitations.commands.ending import end_invitations
from services.invitations.commands.settling import apply_moves
from services.invitations.domain import tokens
from services.invitations.domain.bulk import Door, RowOutcome
from services.invitations.domain.deliveries import Settlement, settle_look_up
from services.invitations.domain.invitations import Status
from services.invitations.domain.jobs import Job, Progress
from services.invitations.domain.messages import BatchProvider, Clue, LookUp, NotFound, Provider
from services.invitations.store import deliveries, idempotency, invitations, jobs
from shared import outbox
from shared.db import Connection, Database, Row
from shared.events import BulkJobCompleted
from shared.sealing import CannotOpen, Sealer

log = logging.getLogger(__name__)

_SWEEP: Final = 500
# Of these requests, eight at a time, each takes up to the clients' time-out of 10 s: the lease must be longer than all
# of them, or two sweepers would ask for one message.
_LOOK_UPS: Final = 40
_LOOK_UPS_AT_ONCE: Final = 8
_LOOK_UP_LEASE_SECONDS: Final = 90.0
_KEY_HOURS: Final = 24


async def sweep_deliveries(database: Database) -> None:
    """Put back what dead senders had claimed; doubt what they were sending."""
    async with database.transaction() as conn:
        requeued = await deliveries.requeue_lost_claims(conn, _SWEEP)
        doubted = await deliveries.doubt_lost_sends(conn, _SWEEP)
        await apply_moves(conn, doubted)
    if requeued or doubted:
        log.warning("a sender is gone: %d messages are back in line, %d are of unknown outcome", requeued, len(doubted))


async def reroute_messages(
    database: Database, providers: Mapping[str, Provider], provider_of: Mapping[str, str]
) -> int:
    """Send by the provider of today what waits for one that is not in use any more; gives the number of messages."""
    async with database.transaction() as conn:
        moved = [
            await deliveries.reroute(conn, channel, provider, list(providers), _SWEEP)
            for channel, provider in provider_of.items()
        ]
    return sum(moved)


async def look_up_unknown(database: Database, providers: Mapping[str, Provider], sealer: Sealer) -> int:
    """Ask the providers what became of messages of unknown outcome; gives how many were asked for."""
    async with database.transaction() as conn:
        due = await _claim_look_ups(conn, providers)
    if not due:
        return 0
    limit = asyncio.Semaphore(_LOOK_UPS_AT_ONCE)
    requests = [
        _ask(providers.get(name), batch_id, list(rows), sealer, limit)
        for (name, batch_id), rows in groupby(sorted(due, key=_request_of), key=_request_of)
    ]
    answers: dict[UUID, LookUp] = {}
    for found in await asyncio.gather(*requests):
        answers |= found
    async with database.transaction() as conn:
        await _settle_look_ups(conn, due, [answers[row["id"]] for row in due])
    return len(due)


async def _claim_look_ups(conn: Connection, providers: Mapping[str, Provider]) -> list[Row]:
    """Take what is due, request by request, as far as each provider may be asked now."""
    claimed: list[Row] = []
    for name, requests in await deliveries.count_due_look_ups(conn):
        provider, granted = providers.get(name), min(requests, _LOOK_UPS)
        if provider is not None:
            pace, questions = provider.look_up_pace, f"{name} look-ups"
            account, now = await deliveries.lock_provider_account(conn, questions, pace.burst)
            account, granted = account.take(granted, pace, now)
            await deliveries.save_provider_account(conn, questions, account)
        claimed += await deliveries.claim_look_ups(conn, name, granted, _LOOK_UP_LEASE_SECONDS)
    return claimed


def _request_of(row: Row) -> tuple[str, str]:
    """Name the request that carried a message: all of its messages are looked up together."""
    return row["provider"], str(row["batch_id"] or row["id"])


async def _ask(
    provider: Provider | None, request_id: str, rows: Sequence[Row], sealer: Sealer, limit: asyncio.Semaphore
) -> Mapping[UUID, LookUp]:
    """Ask a provider about the messages of one request."""
    if provider is None:  # No more in use here: nobody can be asked, in the end a person must look.
        return {row["id"]: NotFound(authoritative=False) for row in rows}
    async with limit:
        if isinstance(provider, BatchProvider):
            return await provider.look_up_many(UUID(request_id), [row["id"] for row in rows])
        return {
            row["id"]: await provider.look_up(
                row["id"], row["provider_id"], clue=Clue(row["phone"], _mark(sealer, row), row["started_at"])
            )
            for row in rows
        }


async def _settle_look_ups(conn: Connection, due: Sequence[Row], answers: Sequence[LookUp]) -> None:
    settlements: list[Settlement] = [
        settle_look_up(
            row["id"],
            answer,
            attempt=row["attempts"],
            look_ups=row["look_ups"],
            was_requeued=row["was_requeued"],
        )
        for row, answer in zip(due, answers, strict=True)
    ]
    asked = [row["id"] for row, answer in zip(due, answers, strict=True) if isinstance(answer, NotFound)]
    await deliveries.count_look_ups(conn, asked)
    await apply_moves(conn, await deliveries.settle(conn, settlements))


def _mark(sealer: Sealer, row: Row) -> str:
    """Give the text that only this message has; without the key there is none, and nothing will be found by it."""
    try:
        return sealer.open(row["token_sealed"], bound_to=tokens.seal_name(row["invitation_id"])).decode()
    except CannotOpen:
        log.error("the token of invitation %d can't be opened; is a key missing?", row["invitation_id"])  # noqa: TRY400 - the trace says no more
        return str(row["id"])


async def expire_invitations(database: Database) -> None:
    """End every invitation whose time is over; their codes are free again."""
    found = _SWEEP
    while found == _SWEEP:
        async with database.transaction() as conn:
            overdue = await invitations.list_overdue(conn, _SWEEP)
            await end_invitations(conn, overdue, Status.EXPIRED, "EXPIRED")
        found = len(overdue)


async def finish_jobs(conn: Connection) -> int:
    """Say of each job once that every row of it is settled."""
    finished = list((await jobs.list_jobs(conn, await jobs.finish_jobs(conn))).values())
    progress_of = await jobs.list_progress(conn, finished)
    for job in finished:
        progress = progress_of[job.id]
        sent = progress.count(RowOutcome.SENT)
        await outbox.add(
            conn,
            BulkJobCompleted(
                job_id=job.id,
                sponsor_id=job.sponsor_id,
                status=progress.ending,
                succeeded=sent,
                failed=progress.total - sent,
            ),
        )
        if job.door is Door.ADMIN_EXCEL:
            await _report(conn, job, progress)
    return len(finished)


async def _report(conn: Connection, job: Job, progress: Progress) -> None:
    """Record how an admin's file ended; its rows are in the results of the job."""
    if await jobs.mark_reported(conn, job.id):
        sent = progress.count(RowOutcome.SENT)
        counts = {outcome.value: number for outcome, number in progress.counts.items()}
        await evidence.record_sent(conn, job, succeeded=sent, failed=progress.total - sent, results=[counts])


async def report_abandoned_calls(
    database: Database, sealer: Sealer, older_than_seconds: float, link_base_url: str
) -> int:
    """Give calls whose process died their answer and their audit record after all."""
    async with database.connection() as conn:
        abandoned = await jobs.list_abandoned_calls(conn, older_than_seconds)
    for job_id in abandoned:
        async with database.transaction() as conn:
            await bulk.report_call(conn, job_id, sealer=sealer, link_base_url=link_base_url)
    return len(abandoned)


async def forget_keys(conn: Connection) -> int:
    """Drop idempotency keys after a day."""
    return await idempotency.forget_keys(conn, _KEY_HOURS)
