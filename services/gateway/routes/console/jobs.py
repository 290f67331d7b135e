"""Lists of farmers: upload, preview, progress, results, stopping and trying again."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any, Literal

import orjson
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from services.gateway.own_door import AnswerBroken
from services.gateway.routes.console.door import SponsorOrAdmin, explain, make_router
from services.gateway.routes.console.invitations import API, INVITATIONS, JOBS, pick_sponsor
from services.gateway.routes.console.refusals import ApiRefused
from services.gateway.routes.console.visitor import Visitor

router = make_router()


@router.get("/invitations/upload")
async def show_upload(visitor: SponsorOrAdmin, sponsor: str = "", search: str = "", cursor: str = "") -> Response:
    """Ask for a list; an admin first chooses whose codes it spends."""
    chosen = await pick_sponsor(visitor, sponsor, search, cursor)
    if isinstance(chosen, Response):
        return chosen
    return visitor.page("upload.html", sponsor=chosen)


@router.post("/invitations/upload/preview")
async def preview_upload(visitor: SponsorOrAdmin, request: Request, sponsor: int) -> Response:
    """Show what a list would do, and do nothing."""
    path, query = _door(visitor, sponsor)
    try:
        answer = await visitor.pass_on(path, query | {"dryRun": "true"}, request.receive)
    except ApiRefused as refused:
        return _refused(visitor, refused)
    key = secrets.token_urlsafe(18)
    return visitor.page("fragments/preview.html", preview=answer["data"], sponsor=sponsor, key=key)


@router.post("/invitations/upload")
async def send_upload(visitor: SponsorOrAdmin, request: Request, sponsor: int, key: str) -> Response:
    """Make a job of a list that was previewed; pressed twice, it is one job."""
    path, query = _door(visitor, sponsor)
    try:
        answer = await visitor.pass_on(path, query, request.receive, key=key)
    except ApiRefused as refused:
        return _refused(visitor, refused)
    return visitor.go(f"/invitations/jobs/{answer['data']['jobId']}")


@router.get("/invitations/template")
async def give_template(visitor: SponsorOrAdmin) -> Response:
    """Give an empty list with the right columns."""
    return await download(visitor, f"{INVITATIONS}/template")


@router.get("/invitations/jobs/{job_id}")
async def show_job(visitor: SponsorOrAdmin, job_id: int) -> Response:
    """Show how far a job has come."""
    job = (await visitor.get(f"{JOBS}/{job_id}"))["data"]
    sent = await visitor.get(INVITATIONS, jobId=job_id, limit=10)
    return visitor.page("job.html", job=job, invitations=sent["items"], more=sent["next_cursor"])


@router.get("/invitations/jobs/{job_id}/events")
async def follow_job(visitor: SponsorOrAdmin, job_id: int) -> Response:
    """Send the page's progress again and again, as the service tells of it."""
    stream = visitor.stream(f"{JOBS}/{job_id}/events")
    _, pieces = await stream.__aenter__()

    async def events() -> AsyncIterator[bytes]:
        try:
            async for name, data in _read_events(pieces):
                if data is None:
                    yield b":\n\n"  # the line lives
                    continue
                html = visitor.part("fragments/job_progress.html", job=data)
                yield f"event: {name}\n".encode() + b"".join(b"data: %b\n" % line.encode() for line in html.split("\n"))
                yield b"\n"
        except AnswerBroken:
            return  # the browser asks again by itself
        finally:
            await stream.__aexit__(None, None, None)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


@router.get("/invitations/jobs/{job_id}/results")
async def give_results(
    visitor: SponsorOrAdmin,
    job_id: int,
    format: Literal["xlsx", "csv"] = "xlsx",  # noqa: A002 - as in addresses
    rows: Literal["all", "failed"] = "all",
) -> Response:
    """Give the rows with what became of each, as a file."""
    return await download(visitor, f"{JOBS}/{job_id}/results", format=format, rows=rows)


@router.post("/invitations/jobs/{job_id}/cancel")
async def cancel_job(visitor: SponsorOrAdmin, job_id: int) -> Response:
    """Stop what was not sent yet."""
    answer = await visitor.send("POST", f"{JOBS}/{job_id}/cancel")
    return visitor.go(f"/invitations/jobs/{job_id}", done="job_cancelled", n=answer["data"]["cancelled"])


@router.post("/invitations/jobs/{job_id}/retry")
async def retry_job(visitor: SponsorOrAdmin, job_id: int) -> Response:
    """Try the failed rows again."""
    answer = await visitor.send("POST", f"{JOBS}/{job_id}/retry")
    return visitor.go(f"/invitations/jobs/{job_id}", done="job_retried", n=answer["data"]["retried"])


async def download(visitor: Visitor, path: str, **query: Any) -> Response:
    """Hand a file of the interface on, piece by piece."""
    stream = visitor.stream(path, **query)
    answer, pieces = await stream.__aenter__()

    async def body() -> AsyncIterator[bytes]:
        try:
            async for piece in pieces:
                yield piece
        finally:
            await stream.__aexit__(None, None, None)

    kept = {b"content-type", b"content-disposition"}
    headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers.items() if name in kept}
    return StreamingResponse(body(), headers=headers)


def _door(visitor: Visitor, sponsor: int) -> tuple[str, dict[str, str]]:
    """Choose between a sponsor's own door and the one for an admin who acts for a sponsor."""
    if visitor.person is not None and visitor.person.has_role("Admin"):
        return f"{API}/admin/farmer/invitations/bulk/excel", {"onBehalfOfSponsorId": str(sponsor)}
    return JOBS, {}


def _refused(visitor: Visitor, refused: ApiRefused) -> Response:
    problem = explain(visitor, refused)
    # The service's own words name the sheet, the row or the heading, which a code can't.
    detail = refused.detail if refused.detail and refused.detail != problem and refused.status < 500 else ""  # noqa: PLR2004 - our faults say nothing
    return visitor.page("fragments/upload_refused.html", status=refused.status, problem=problem, detail=detail)


async def _read_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, Any]]:
    """Read Server-Sent Events as our services write them: a name, and one line of JSON or None for a sign of life."""
    waiting = b""
    async for piece in pieces:
        waiting += piece
        while b"\n\n" in waiting:
            event, waiting = waiting.split(b"\n\n", 1)
            fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
            name, data = fields.get(b"event", b"progress").decode(), fields.get(b"data")
            yield name, None if data is None else orjson.loads(data)
