"""The doors, never to be confused: the sponsor's file, the admin's JSON, the admin's file, the single invitation."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from services.invitations import spreadsheet
from services.invitations.commands import bulk, evidence, uploads
from services.invitations.commands.bulk import Answered, Invitation, Recipient
from services.invitations.context import Context
from services.invitations.domain.bulk import (
    Channel,
    Door,
    FileRequired,
    JsonRequired,
    MultipartRequired,
    NoRecipients,
    ReadersBusy,
    SponsorParameterRequired,
    read_tier,
)
from services.invitations.domain.wording import read_template
from services.invitations.routes.doors import (
    SPONSORSHIP,
    Admin,
    CurrentContext,
    IdempotencyKey,
    Sponsor,
    SponsorOrAdmin,
    key_of,
    only_parameters,
)
from services.invitations.routes.uploading import Form, receive_form
from services.invitations.schemas.answers import CallAnswer, PreviewAnswer, UploadAnswer
from services.invitations.schemas.bodies import FarmerBody, InviteBody, OnBehalfBody
from shared.errors import Failure, FieldError, Invalid
from shared.identity import Principal
from shared.web import JsonResponse

router = APIRouter(prefix=SPONSORSHIP, tags=["bulk invitations"])

_TURN_SECONDS: Final = 30.0
_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["excelFile"],
                    "properties": {
                        "excelFile": {"type": "string", "format": "binary"},
                        "channel": {"type": "string", "enum": list(Channel), "default": "SMS"},
                        "customMessage": {"type": "string"},
                        "packageTier": {"type": "string", "enum": ["S", "M", "L", "XL"]},
                        "consentEvidence": {"type": "string"},
                    },
                }
            }
        },
    }
}


_PREVIEW: dict[int | str, dict[str, Any]] = {200: {"model": PreviewAnswer, "description": "With dryRun=true"}}


def _json_only(request: Request, caller: Admin) -> None:
    del caller  # named so that it is asked first who calls
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise JsonRequired


def _multipart_only(request: Request) -> None:
    content_type = request.headers.get("content-type", "").lower()
    if not content_type:
        raise FileRequired
    if not content_type.startswith("multipart/form-data"):
        raise MultipartRequired


@router.post("/admin/farmer/invitations/bulk", response_model=CallAnswer, dependencies=[Depends(_json_only)])
async def invite_farmers_on_behalf(
    request: Request, caller: Admin, body: OnBehalfBody, context: CurrentContext, idempotency_key: IdempotencyKey
) -> Response:
    """Invite farmers for a sponsor, each wholly or not at all, and tell each one's result."""
    try:
        only_parameters(request)
        invitation = _invitation(body, body.recipients, sponsor_id=body.sponsor_id, door=Door.ADMIN_JSON)
        fingerprint = _fingerprint("admin bulk", body.model_dump(mode="json"))
        return await _call(context, caller, invitation, idempotency_key, fingerprint)
    except Failure as failure:
        await _record_refusal(context, caller, body.sponsor_id, failure, count=len(body.recipients))
        raise


@router.post("/farmer/invite", response_model=CallAnswer)
async def invite_farmer(
    request: Request, caller: Sponsor, body: InviteBody, context: CurrentContext, idempotency_key: IdempotencyKey
) -> Response:
    """Invite one farmer with the caller's own codes."""
    only_parameters(request)
    invitation = _invitation(body, [body], sponsor_id=caller.id, door=Door.SINGLE)
    fingerprint = _fingerprint("invite", body.model_dump(mode="json"))
    return await _call(context, caller, invitation, idempotency_key, fingerprint)


@router.post(
    "/farmer/invitations/bulk",
    status_code=202,
    response_model=UploadAnswer,
    responses=_PREVIEW,
    openapi_extra=_UPLOAD_SCHEMA,
)
async def upload_invitations(
    request: Request, caller: SponsorOrAdmin, context: CurrentContext, idempotency_key: IdempotencyKey
) -> Response:
    """Invite the farmers of an uploaded list with the caller's own codes, in the background."""
    only_parameters(request, "dryRun")
    _multipart_only(request)
    return await _upload(request, caller, context, idempotency_key, sponsor_id=caller.id, door=Door.SPONSOR_EXCEL)


@router.post(
    "/admin/farmer/invitations/bulk/excel",
    status_code=202,
    response_model=UploadAnswer,
    responses=_PREVIEW,
    openapi_extra=_UPLOAD_SCHEMA,
)
async def upload_invitations_on_behalf(
    request: Request, caller: Admin, context: CurrentContext, idempotency_key: IdempotencyKey
) -> Response:
    """Invite the farmers of an uploaded list for a sponsor, in the background."""
    only_parameters(request, "dryRun", "onBehalfOfSponsorId")
    _multipart_only(request)
    sponsor_id = _sponsor_parameter(request)
    try:
        return await _upload(request, caller, context, idempotency_key, sponsor_id=sponsor_id, door=Door.ADMIN_EXCEL)
    except Failure as failure:
        await _record_refusal(context, caller, sponsor_id, failure)
        raise


@router.get("/farmer/invitations/template", response_class=Response, responses={200: {"content": {_XLSX: {}}}})
async def give_template(caller: SponsorOrAdmin) -> Response:
    """Give an empty list with the right columns."""
    del caller
    headers = {"content-disposition": 'attachment; filename="davet-listesi.xlsx"'}
    return Response(spreadsheet.write_template(), media_type=_XLSX, headers=headers)


async def _call(
    context: Context, caller: Principal, invitation: Invitation, key: str | None, fingerprint: bytes
) -> Response:
    """Place in one transaction, send outside of any, report in another."""
    async with context.database.transaction() as conn:
        started = await bulk.start_call(conn, caller, invitation, key_of(key, fingerprint), context.terms())
    if isinstance(started, Answered):
        return JsonResponse(started.answer, status_code=started.status, headers={"idempotency-replayed": "true"})
    await context.sender.send_now(started.delivery_ids, context.settings.bulk_deadline_seconds)
    async with context.database.transaction() as conn:
        answer = await bulk.report_call(
            conn, started.job_id, sealer=context.sealer, link_base_url=context.settings.link_base_url
        )
    return JsonResponse(answer)


async def _upload(
    request: Request, caller: Principal, context: Context, key: str | None, *, sponsor_id: int, door: Door
) -> Response:
    dry_run = _flag(request, "dryRun")
    async with receive_form(request, context.settings.upload_folder) as form:
        upload = _upload_of(form, sponsor_id, door, is_commercial=context.terms().is_commercial)
        fingerprint = _fingerprint(f"upload {door} {sponsor_id} {form.sha256.hex()}", form.fields)
        async with _turn(context):
            if dry_run:
                async with context.database.connection() as conn:
                    return JsonResponse(
                        await uploads.preview_upload(conn, caller, upload, context.settings.link_base_url)
                    )
            async with context.database.transaction() as conn:
                answered = await uploads.accept_upload(conn, caller, upload, key_of(key, fingerprint), context.sealer)
    headers = {"location": answered.answer["data"]["statusCheckUrl"], "retry-after": "1"}
    return JsonResponse(answered.answer, status_code=answered.status, headers=headers)


@asynccontextmanager
async def _turn(context: Context) -> AsyncIterator[None]:
    """Wait for a turn to read a file, before any transaction begins; raises ReadersBusy."""
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            await context.reading.acquire()
    except TimeoutError:
        raise ReadersBusy(retry_after=5) from None
    try:
        yield
    finally:
        context.reading.release()


def _upload_of(form: Form, sponsor_id: int, door: Door, *, is_commercial: bool) -> uploads.Upload:
    return uploads.Upload(
        sponsor_id=sponsor_id,
        door=door,
        path=form.path,
        sha256=form.sha256,
        channel=_channel(form.fields.get("channel")),
        custom_message=read_template(form.fields.get("customMessage")),
        default_tier=read_tier(form.fields.get("packageTier") or None),
        consent_evidence=form.fields.get("consentEvidence"),
        is_commercial=is_commercial,
    )


def _invitation(
    body: OnBehalfBody | InviteBody, farmers: Sequence[FarmerBody], *, sponsor_id: int, door: Door
) -> Invitation:
    if not farmers:
        raise NoRecipients
    return Invitation(
        sponsor_id=sponsor_id,
        door=door,
        channel=body.channel,
        custom_message=read_template(body.custom_message),
        recipients=[
            Recipient(one.phone, one.farmer_name, one.email, one.code_count, read_tier(one.package_tier), one.notes)
            for one in farmers
        ],
        consent_evidence=body.consent_evidence,
    )


def _channel(text: str | None) -> Channel:
    try:
        return Channel(text or Channel.SMS)
    except ValueError:
        raise Invalid(fields=[FieldError("channel", "SMS veya WhatsApp olmalıdır")]) from None


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in {"true", "false"}:
        raise Invalid(fields=[FieldError(name, "true veya false olmalıdır")])
    return text == "true"


def _sponsor_parameter(request: Request) -> int:
    text = request.query_params.get("onBehalfOfSponsorId")
    if not text:
        raise SponsorParameterRequired
    if not (text.isascii() and text.isdigit() and len(text) < len(str(2**63))):
        raise Invalid(fields=[FieldError("onBehalfOfSponsorId", "Sponsorun numarası olmalıdır")])
    return int(text)


def _fingerprint(door: str, content: Any) -> bytes:
    return hashlib.sha256(door.encode() + b"\n" + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


async def _record_refusal(
    context: Context, caller: Principal, sponsor_id: int, failure: Failure, *, count: int | None = None
) -> None:
    """Leave evidence of a refused call; what failed on our side left none of its effects either."""
    if failure.status < 500:  # noqa: PLR2004 - HTTP's border between the caller's faults and ours
        async with context.database.transaction() as conn:
            await evidence.record_refused(conn, caller, sponsor_id, failure, count=count)
