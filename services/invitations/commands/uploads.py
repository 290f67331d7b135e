"""Uploaded lists: judged row by row, copied into the database, split into chunks that the workers place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.invitations import spreadsheet
from services.invitations.commands import evidence
from services.invitations.commands.bulk import (
    Answered,
    Key,
    check_sponsor,
    claim_key,
    job_summary,
    save_answer,
    warnings_of,
)
from services.invitations.domain import wording
from services.invitations.domain.bulk import MOST_ROWS, Channel, Door, Refusal, RowOutcome
from services.invitations.domain.codes import Tier
from services.invitations.domain.jobs import CHUNK_ROWS, Job
from services.invitations.domain.rows import LONGEST_NOTES, Judge, Judgement
from services.invitations.domain.wording import unused_message
from services.invitations.store import codes, idempotency, invitations, jobs
from services.invitations.store.jobs import NewRow
from shared import audit, outbox
from shared.db import Connection
from shared.events import BulkChunkQueued, BulkJobAccepted, InvitationsAudit
from shared.events.audit import Target
from shared.identity import Principal
from shared.moments import write_moment
from shared.sealing import Sealer

_PREVIEW_ROWS: Final = 20
_PREVIEW_ERRORS: Final = 1_000
_SAME_FILE_HOURS: Final = 24
_EXAMPLE_LINK_LENGTH: Final = 32
STATUS_PATH: Final = "/api/Sponsorship/farmer/invitations/bulk"


@dataclass(frozen=True, slots=True)
class Upload:
    """A list on our disk, and what is to be done with it."""

    sponsor_id: int
    door: Door
    path: Path
    sha256: bytes
    channel: Channel
    custom_message: str | None
    default_tier: Tier | None
    consent_evidence: str | None
    is_commercial: bool


async def accept_upload(
    conn: Connection, caller: Principal, upload: Upload, key: Key | None, sealer: Sealer
) -> Answered:
    """Make a job of a list; what this transaction commits is the whole job, ready for the workers."""
    answered = await claim_key(conn, caller, key, sealer)
    if answered:
        return answered
    await check_sponsor(conn, caller, upload.sponsor_id, on_behalf=upload.door.is_on_behalf, lock=False)
    warnings = await _warnings(conn, upload)
    job_id = await jobs.insert_job(
        conn,
        sponsor_id=upload.sponsor_id,
        actor=audit.actor_of(caller),
        door=upload.door,
        channel=upload.channel,
        custom_message=upload.custom_message,
        request_id=evidence.request_id(),
        consent_evidence=upload.consent_evidence,
        is_commercial=upload.is_commercial,
        file_sha256=upload.sha256,
    )
    if key:
        await idempotency.bind_key(conn, caller.id, key.value, job_id)
    summary, refused, chunks = await _copy_rows(conn, job_id, upload)
    await jobs.set_total(conn, job_id, summary.rows)
    job = await jobs.get_job(conn, job_id)
    await _announce(conn, job, chunks)
    answer = _answer(job, refused) | warnings_of(warnings + _left_out(summary))
    await save_answer(conn, job_id, 202, answer, sealer)
    return Answered(202, answer)


async def preview_upload(conn: Connection, caller: Principal, upload: Upload, link_base_url: str) -> dict[str, Any]:
    """Say what a list would do, and do nothing: mapping, first rows, every error, duplicates, codes, the message."""
    account = await check_sponsor(conn, caller, upload.sponsor_id, on_behalf=upload.door.is_on_behalf, lock=False)
    judge = Judge(upload.default_tier)
    first: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    phones: dict[str, tuple[int, Tier | None]] = {}
    refused = 0
    async with spreadsheet.read_rows(upload.path, limit=MOST_ROWS) as reading:
        async for batch in reading:
            for row in batch:
                verdict = _judge(judge, row)
                refused += verdict.refusal is not None
                if len(first) < _PREVIEW_ROWS:
                    first.append(_preview_row(row, verdict))
                if verdict.refusal and len(errors) < _PREVIEW_ERRORS:
                    problem = {"row": row.row_no, "column": verdict.column, "reason": verdict.reason}
                    errors.append(problem | {"code": verdict.refusal})
                if verdict.phone and not verdict.refusal:
                    phones[verdict.phone] = (row.row_no, verdict.tier)
    summary = reading.summary
    invited = await invitations.list_invited(conn, upload.sponsor_id, list(phones))
    opted_out = await invitations.list_opted_out(conn, list(phones))
    stock = (await codes.list_stocks(conn, [upload.sponsor_id]))[upload.sponsor_id]
    needed = Counter(
        tier.value if tier else "any" for phone, (_, tier) in phones.items() if phone not in invited | opted_out
    )
    text, segments = _example(upload.custom_message, account.full_name, link_base_url)
    by_sms = upload.channel is Channel.SMS
    return {
        "success": True,
        "message": f"{needed.total()} satır gönderilebilir, {refused} satır hatalı",
        "data": {
            "totalRows": summary.rows,
            "validRows": len(phones),
            "invalidRows": refused,
            "mapping": summary.mapping,
            "ignoredColumns": summary.ignored_columns,
            "hiddenRows": summary.hidden_rows,
            "hiddenColumns": summary.hidden_columns,
            "firstRows": first,
            "errors": errors,
            "alreadyInvited": sorted(phones[phone][0] for phone in invited),
            "optedOut": sorted(phones[phone][0] for phone in opted_out),
            "codesNeeded": dict(needed),
            "codesAvailable": {tier.tier.value: tier.available for tier in stock},
            "messagePreview": text if by_sms else None,
            "smsSegments": segments._asdict() if by_sms else None,
        },
    } | warnings_of(await _warnings(conn, upload) + _left_out(summary))


async def _warnings(conn: Connection, upload: Upload) -> list[str]:
    """Say what the uploader may not have meant; nothing of it stands against the upload."""
    warnings = unused_message(upload.channel, upload.custom_message)
    earlier = await jobs.find_upload(conn, upload.sponsor_id, upload.sha256, _SAME_FILE_HOURS)
    if earlier is not None:
        warnings.append(
            f"Aynı dosya son {_SAME_FILE_HOURS} saat içinde de yüklenmiş (iş {earlier}). "
            "Yanıtlanmamış daveti olan çiftçilere yeniden mesaj gönderilmez."
        )
    return warnings


def _left_out(summary: spreadsheet.Summary) -> list[str]:
    """Say what of the file was not read: people filter a list in Excel and expect only what they see to be sent."""
    hidden = f"{summary.hidden_rows} gizli satır okunmadı." if summary.hidden_rows else ""
    others = ", ".join(summary.other_sheets)
    sheets = f"Yalnızca «{summary.sheet}» sayfası okundu; okunmayanlar: {others}." if others else ""
    return [warning for warning in (hidden, sheets) if warning]


async def _copy_rows(
    conn: Connection, job_id: int, upload: Upload
) -> tuple[spreadsheet.Summary, int, list[tuple[int, int]]]:
    """Judge the rows as they are read and copy them in; gives what was read, the refused rows and the chunks."""
    judge = Judge(upload.default_tier)
    refused = 0
    waiting: list[int] = []
    chunks: list[tuple[int, int]] = []
    async with spreadsheet.read_rows(upload.path, limit=MOST_ROWS) as reading:
        async for batch in reading:
            rows = [_new_row(row, _judge(judge, row)) for row in batch]
            await jobs.insert_rows(conn, job_id, rows)
            refused += sum(row.refusal is not None for row in rows)
            waiting += [row.row_no for row in rows if row.refusal is None]
            while len(waiting) >= CHUNK_ROWS:
                chunks.append((waiting[0], waiting[CHUNK_ROWS - 1]))
                del waiting[:CHUNK_ROWS]
    if waiting:
        chunks.append((waiting[0], waiting[-1]))
    return reading.summary, refused, chunks


def _judge(judge: Judge, row: spreadsheet.Row) -> Judgement:
    if row.problems:
        # What the reader saw in a cell says more than what its text looks like afterwards.
        problem = row.problems[0]
        refusal = Refusal.INVALID_PHONE if problem.column == "Phone" else Refusal.INVALID_ROW
        return Judgement(None, None, refusal, problem.reason, problem.column)
    return judge.judge(row.row_no, row.phone_text, tier=row.package_tier, email=row.email, farmer_name=row.farmer_name)


def _new_row(row: spreadsheet.Row, verdict: Judgement) -> NewRow:
    return NewRow(
        row_no=row.row_no,
        phone_text=row.phone_text,
        phone=verdict.phone,
        farmer_name=row.farmer_name,
        email=row.email or None,
        notes=row.notes[:LONGEST_NOTES] or None,
        tier=verdict.tier or row.package_tier or None,
        code_count=1,
        outcome=RowOutcome.FAILED if verdict.refusal else RowOutcome.WAITING,
        refusal=verdict.refusal,
        reason=verdict.reason,
    )


async def _announce(conn: Connection, job: Job, chunks: Sequence[tuple[int, int]]) -> None:
    await outbox.add(conn, BulkJobAccepted(job_id=job.id, sponsor_id=job.sponsor_id, rows=job.total_rows))
    if job.door.is_on_behalf:
        await evidence.record_started(conn, job)
    else:
        await audit.record(
            conn,
            InvitationsAudit,
            action="invitations.bulk.accepted",
            actor=job.actor,
            target=Target(kind="bulk_job", id=str(job.id)),
            details=job_summary(job),
        )
    await outbox.add_many(
        conn,
        [
            BulkChunkQueued(job_id=job.id, sponsor_id=job.sponsor_id, first_row=first, last_row=last)
            for first, last in chunks
        ],
    )


def _answer(job: Job, refused: int) -> dict[str, Any]:
    return {
        "success": True,
        "message": f"{job.total_rows} davet başarıyla sıraya alındı",
        "data": {
            "jobId": job.id,
            "totalDealers": job.total_rows,
            "totalRecipients": job.total_rows,
            "invalidRows": refused,
            "status": "Queued",
            "createdDate": write_moment(job.created_at),
            "statusCheckUrl": f"{STATUS_PATH}/{job.id}",
        },
    }


def _preview_row(row: spreadsheet.Row, verdict: Judgement) -> dict[str, Any]:
    return {
        "row": row.row_no,
        "phone": verdict.phone or row.phone_text,
        "farmerName": row.farmer_name,
        "email": row.email or None,
        "packageTier": verdict.tier,
        "notes": row.notes or None,
        "error": verdict.reason,
    }


def _example(template: str | None, sponsor_name: str, link_base_url: str) -> tuple[str, wording.Segments]:
    """Write the message as a farmer with a name of usual length would get it."""
    link = f"{link_base_url.rstrip('/')}/ref/{'0' * _EXAMPLE_LINK_LENGTH}"
    values = wording.variables_of(farmer_name="Ahmet Yılmaz", sponsor_name=sponsor_name, code_count=1, deep_link=link)
    text = wording.render(template, values, f"{link}/opt-out")
    return text, wording.segments_of(text)
