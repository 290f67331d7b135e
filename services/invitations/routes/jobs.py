"""How far a bulk job has come, what became of its rows, stopping it and trying again."""

from __future__ import annotations

# ruff: noqa: FAST003 - `_own_job` takes the job's id from the path.
import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Depends, Header, Query
from fastapi import Path as InPath
from fastapi.responses import Response, StreamingResponse
from starlette.background import BackgroundTask

from services.invitations import spreadsheet
from services.invitations.commands import jobs as commands
from services.invitations.commands.uploads import STATUS_PATH
from services.invitations.context import Context
from services.invitations.domain import tokens
from services.invitations.domain.bulk import Refusal, RowOutcome, delivery_status
from services.invitations.domain.jobs import FormatUnknown, Job, JobUnknown, Progress
from services.invitations.routes.doors import SPONSORSHIP, CurrentContext, SponsorOrAdmin, position_of
from services.invitations.schemas.answers import FactsAnswer, JobAnswer, JobPage
from services.invitations.store import jobs
from shared.db import Row
from shared.identity import Principal
from shared.moments import write_moment
from shared.pagination import encode_cursor
from shared.web import JsonResponse

router = APIRouter(prefix=f"{SPONSORSHIP}/farmer/invitations/bulk", tags=["bulk jobs"])

_POLL_SECONDS: Final = 0.5
# Between two events of a silent stream, so that proxies do not take it for dead.
_HEARTBEAT_SECONDS: Final = 15.0
_PAGE: Final = 2_000
_FORMATS: Final = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}

JobId = Annotated[int, InPath(ge=1, le=2**63 - 1)]


async def _own_job(job_id: JobId, caller: SponsorOrAdmin, context: CurrentContext) -> Job:
    async with context.database.connection() as conn:
        job = await jobs.get_job(conn, job_id)
    _check_owner(job, caller)
    return job


OwnJob = Annotated[Job, Depends(_own_job)]


@router.get("", response_model=JobPage)
async def list_jobs(
    caller: SponsorOrAdmin,
    context: CurrentContext,
    sponsor_id: Annotated[int | None, Query(alias="sponsorId", ge=1, le=2**63 - 1)] = None,
    *,
    running: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """List the caller's jobs, or for an admin any sponsor's, the newest first; `running` tells the unfinished apart."""
    shown = sponsor_id if caller.has_role("Admin") else caller.id
    async with context.database.connection() as conn:
        found = await jobs.list_recent_jobs(
            conn, sponsor_id=shown, is_running=running, before_id=position_of(cursor), limit=limit + 1
        )
        progress = await jobs.list_progress(conn, found[:limit])
    items = [_describe(job, progress[job.id]) for job in found[:limit]]
    following = encode_cursor(found[limit - 1].id) if len(found) > limit else None
    return JsonResponse({"items": items, "next_cursor": following})


@router.get("/{job_id}", response_model=JobAnswer)
async def show_job(job: OwnJob, context: CurrentContext) -> Response:
    """Tell how far a job has come."""
    progress = await _progress(context, job)
    headers = {} if progress.is_finished else {"retry-after": "1"}
    return JsonResponse(
        {"success": True, "message": _message(progress), "data": _describe(job, progress)}, headers=headers
    )


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}},
        204: {"description": "The event of Last-Event-ID was the last one."},
    },
)
async def follow_job(
    job: OwnJob, context: CurrentContext, last_event_id: Annotated[str, Header(max_length=200)] = ""
) -> Response:
    """Tell how far a job has come, again and again until its end (Server-Sent Events); each event tells all."""
    progress = await _progress(context, job)
    if progress.is_finished and _event_id(progress) == last_event_id:
        return Response(status_code=204)  # By this a browser knows that it need not come again (HTML, 9.2.3).
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(context, job, last_event_id), media_type="text/event-stream", headers=headers)


@router.get(
    "/{job_id}/results",
    response_class=StreamingResponse,
    responses={200: {"content": {media_type: {} for media_type in _FORMATS.values()}}},
)
async def give_results(
    job: OwnJob,
    context: CurrentContext,
    file_format: Annotated[str, Query(alias="format")] = "xlsx",
    rows: Literal["all", "failed"] = "all",
) -> Response:
    """Give the rows with what became of each, as a file; all of them, or those that failed."""
    only = RowOutcome.FAILED if rows == "failed" else None
    if file_format not in _FORMATS:
        raise FormatUnknown
    folder = TemporaryDirectory(dir=context.settings.upload_folder, prefix="results-")
    path = Path(folder.name) / f"results.{file_format}"
    try:
        await spreadsheet.write_results(path, _result_rows(context, job, only))
    except BaseException:
        folder.cleanup()
        raise
    headers = {"content-disposition": f'attachment; filename="davet-sonuclari-{job.id}.{file_format}"'}
    return StreamingResponse(
        _pieces(path), media_type=_FORMATS[file_format], headers=headers, background=BackgroundTask(folder.cleanup)
    )


@router.post("/{job_id}/cancel", response_model=FactsAnswer)
async def cancel_job(job: OwnJob, caller: SponsorOrAdmin, context: CurrentContext) -> Response:
    """Stop what was not sent yet."""
    async with context.database.transaction() as conn:
        cancelled = await commands.cancel_job(conn, caller, job.id)
    data = {"jobId": job.id, "cancelled": cancelled}
    return JsonResponse({"success": True, "message": f"{cancelled} davet iptal edildi", "data": data})


@router.post("/{job_id}/retry", status_code=202, response_model=FactsAnswer)
async def retry_job(job: OwnJob, caller: SponsorOrAdmin, context: CurrentContext) -> Response:
    """Try again what failed for a reason that may have passed."""
    async with context.database.transaction() as conn:
        retried = await commands.retry_job(conn, caller, job.id)
    data = {"jobId": job.id, "retried": retried, "statusCheckUrl": f"{STATUS_PATH}/{job.id}"}
    body = {"success": True, "message": f"{retried} davet yeniden sıraya alındı", "data": data}
    return JsonResponse(body, status_code=202, headers={"location": f"{STATUS_PATH}/{job.id}"})


def _check_owner(job: Job, caller: Principal) -> None:
    """Another sponsor's job does not exist for the caller, so that ids tell nothing."""
    if job.sponsor_id != caller.id and not caller.has_role("Admin"):
        raise JobUnknown


async def _progress(context: Context, job: Job) -> Progress:
    async with context.database.connection() as conn:
        return await jobs.get_progress(conn, job.id)


def _message(progress: Progress) -> str:
    return f"{progress.settled}/{progress.total} davet işlendi"


def _describe(job: Job, progress: Progress) -> dict[str, Any]:
    now = datetime.now(UTC)
    ends = progress.estimated_end(now)
    return {
        "jobId": job.id,
        "sponsorId": job.sponsor_id,
        "sponsorName": job.sponsor_name,
        "channel": job.channel,
        "status": progress.status,
        "totalDealers": progress.total,
        "totalRecipients": progress.total,
        "processedCount": progress.settled,
        "successCount": progress.count(RowOutcome.SENT),
        "failedCount": progress.count(RowOutcome.FAILED),
        "counts": {outcome.value: progress.count(outcome) for outcome in RowOutcome},
        "percent": progress.percent,
        "rowsPerSecond": progress.rate(now),
        "estimatedEnd": write_moment(ends),
        "createdDate": write_moment(job.created_at),
        "completedDate": write_moment(progress.finished_at),
        "statusCheckUrl": f"{STATUS_PATH}/{job.id}",
        "resultsUrl": f"{STATUS_PATH}/{job.id}/results",
    }


def _event_id(progress: Progress) -> str:
    """Name how the rows stand; rate and estimate change even while nothing happens."""
    return "-".join([progress.status, *(str(progress.count(outcome)) for outcome in RowOutcome)])


async def _events(context: Context, job: Job, last: str) -> AsyncIterator[bytes]:
    silent = 0.0
    while True:
        progress = await _progress(context, job)
        event_id = _event_id(progress)
        if event_id != last:
            name = b"completed" if progress.is_finished else b"progress"
            body = orjson.dumps(_describe(job, progress))
            yield b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), name, body)
            last, silent = event_id, 0.0
        elif silent >= _HEARTBEAT_SECONDS:
            yield b": still here\n\n"
            silent = 0.0
        if progress.is_finished:
            return
        await asyncio.sleep(_POLL_SECONDS)
        silent += _POLL_SECONDS


async def _result_rows(
    context: Context, job: Job, only: RowOutcome | None
) -> AsyncIterator[list[spreadsheet.ResultRow]]:
    last = 0
    while True:
        async with context.database.connection() as conn:
            page = await jobs.list_results(conn, job.id, last, _PAGE, only=only)
        yield [_result_row(context, row) for row in page]
        if len(page) < _PAGE:
            return
        last = page[-1]["row_no"]


def _result_row(context: Context, row: Row) -> spreadsheet.ResultRow:
    link = ""
    if row["token_sealed"] is not None:
        token = context.sealer.open(row["token_sealed"], bound_to=tokens.seal_name(row["invitation_id"])).decode()
        link = tokens.link_to(context.settings.link_base_url, token)
    refusal = Refusal(row["refusal"]) if row["refusal"] else None
    return spreadsheet.ResultRow(
        row_no=row["row_no"],
        phone=row["phone_text"],
        farmer_name=row["farmer_name"],
        email=row["email"] or "",
        package_tier=row["given_tier"] or row["tier"] or "",
        notes=row["notes"] or "",
        status=delivery_status(RowOutcome(row["outcome"]), refusal),
        reason=row["reason"] or "",
        link=link,
    )


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, 256 * 1024):
            yield piece
    finally:
        await asyncio.to_thread(file.close)
