"""The admin's on-behalf-of call: a job whose rows are placed at once and whose caller waits for the messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from services.invitations.commands import evidence
from services.invitations.commands.placing import Terms, place_rows
from services.invitations.domain import tokens
from services.invitations.domain.bulk import (
    CANCELLED,
    Channel,
    Door,
    NotASponsor,
    OnBehalfOfNotPermitted,
    Refusal,
    RowOutcome,
    SponsorDisabled,
    SponsorUnknown,
    StillRunning,
    bulk_message,
    delivery_status,
    total_shortage,
)
from services.invitations.domain.codes import Tier
from services.invitations.domain.jobs import Job
from services.invitations.domain.rows import Judge
from services.invitations.domain.wording import unused_message
from services.invitations.store import accounts, idempotency, jobs
from services.invitations.store.accounts import Account
from services.invitations.store.jobs import NewRow
from shared import audit
from shared.db import Connection, Row
from shared.identity import Principal
from shared.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Recipient:
    """One farmer as a JSON door names them."""

    phone: str
    farmer_name: str
    email: str | None
    code_count: int
    tier: Tier | None
    notes: str | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a JSON door asks for."""

    sponsor_id: int
    door: Door
    channel: Channel
    custom_message: str | None
    recipients: Sequence[Recipient]
    consent_evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """The caller's Idempotency-Key and what the request was."""

    value: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Started:
    """A call whose rows are placed; its messages are claimed for the calling process."""

    job_id: int
    delivery_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call is answered, or was answered when it came first."""

    status: int
    answer: dict[str, Any]


async def check_sponsor(
    conn: Connection, caller: Principal, sponsor_id: int, *, on_behalf: bool, lock: bool
) -> Account:
    """Give the sponsor's account if this caller may spend its codes; raises what stands against it."""
    find = accounts.lock_account if lock else accounts.find_account
    account = await find(conn, sponsor_id)
    if account is None:
        raise SponsorUnknown
    if on_behalf and not account.is_sponsor:
        raise NotASponsor
    if on_behalf and not caller.may_act_for(sponsor_id):
        raise OnBehalfOfNotPermitted
    if not account.is_active:
        raise SponsorDisabled
    return account


async def claim_key(conn: Connection, caller: Principal, key: Key | None, sealer: Sealer) -> Answered | None:
    """Claim the caller's key for this request; gives the earlier answer. Raises StillRunning, IdempotencyKeyReused."""
    if key is None:
        return None
    earlier = await idempotency.claim_key(conn, caller.id, key.value, key.fingerprint)
    if earlier is None:
        return None
    if earlier["answer_sealed"] is None:
        raise StillRunning
    return Answered(
        earlier["status"], orjson.loads(sealer.open(earlier["answer_sealed"], bound_to=_answer_name(earlier["job_id"])))
    )


async def save_answer(conn: Connection, job_id: int, status: int, answer: dict[str, Any], sealer: Sealer) -> None:
    """Keep the answer for a repetition of the request with the same key."""
    await idempotency.save_answer(
        conn, job_id, status, sealer.seal(orjson.dumps(answer), bound_to=_answer_name(job_id))
    )


async def start_call(
    conn: Connection, caller: Principal, invitation: Invitation, key: Key | None, terms: Terms
) -> Started | Answered:
    """Check a call, reserve codes and claim the messages, all in the caller's transaction."""
    answered = await claim_key(conn, caller, key, terms.sealer)
    if answered:
        return answered
    door = invitation.door
    await check_sponsor(conn, caller, invitation.sponsor_id, on_behalf=door.is_on_behalf, lock=True)
    job_id = await jobs.insert_job(
        conn,
        sponsor_id=invitation.sponsor_id,
        actor=audit.actor_of(caller),
        door=door,
        channel=invitation.channel,
        custom_message=invitation.custom_message,
        request_id=evidence.request_id(),
        consent_evidence=invitation.consent_evidence,
        is_commercial=terms.is_commercial,
    )
    if key:
        await idempotency.bind_key(conn, caller.id, key.value, job_id)
    rows = _judged(invitation.recipients)
    await jobs.insert_rows(conn, job_id, rows)
    await jobs.set_total(conn, job_id, len(rows))
    job = await jobs.get_job(conn, job_id)
    if door.is_on_behalf:
        await evidence.record_started(conn, job)
    waiting = await jobs.lock_waiting_rows(conn, job_id, 1, len(rows))
    placement = await place_rows(conn, job, waiting, terms)
    if placement.shortages and not placement.delivery_ids:
        raise total_shortage(placement.shortages)
    return Started(job_id, placement.delivery_ids)


async def report_call(conn: Connection, job_id: int, *, sealer: Sealer, link_base_url: str) -> dict[str, Any]:
    """Sum up a call for its caller, for a repetition with the same key and for the audit log, once each."""
    job = await jobs.get_job(conn, job_id)
    rows = await jobs.list_results(conn, job_id, 0, job.total_rows)
    results = [_result(row, sealer, link_base_url) for row in rows]
    succeeded = sum(result["success"] for result in results)
    answer = {
        "success": True,
        "message": bulk_message(succeeded, job.channel),
        "data": {
            "totalRequested": len(results),
            "successCount": succeeded,
            "failedCount": len(results) - succeeded,
            "results": results,
        },
    } | warnings_of(unused_message(job.channel, job.custom_message))
    if await jobs.mark_reported(conn, job_id):
        await save_answer(conn, job_id, 200, answer, sealer)
        if job.door.is_on_behalf:
            evidence_of = [_evidence(row, result) for row, result in zip(rows, results, strict=True)]
            await evidence.record_sent(
                conn, job, succeeded=succeeded, failed=len(results) - succeeded, results=evidence_of
            )
    return answer


def _judged(recipients: Sequence[Recipient]) -> list[NewRow]:
    judge = Judge()
    rows = []
    for row_no, recipient in enumerate(recipients, start=1):
        verdict = judge.judge(row_no, recipient.phone)
        rows.append(
            NewRow(
                row_no=row_no,
                phone_text=recipient.phone,
                phone=verdict.phone,
                farmer_name=recipient.farmer_name,
                email=recipient.email,
                notes=recipient.notes,
                tier=recipient.tier,
                code_count=recipient.code_count,
                outcome=RowOutcome.FAILED if verdict.refusal else RowOutcome.WAITING,
                refusal=verdict.refusal,
                reason=verdict.reason,
            )
        )
    return rows


def _result(row: Row, sealer: Sealer, link_base_url: str) -> dict[str, Any]:
    """Describe one recipient's result in the words that frontends depend on."""
    outcome = RowOutcome(row["outcome"])
    succeeded = outcome not in {RowOutcome.FAILED, RowOutcome.CANCELLED}
    result: dict[str, Any] = {
        "phone": row["phone_text"],
        "farmerName": row["farmer_name"],
        "codeCount": row["code_count"],
        "packageTier": (row["given_tier"] if succeeded else None) or row["tier"],
        "success": succeeded,
    }
    if succeeded and row["invitation_id"] is not None:  # None: somebody retries the row at this very moment
        token = sealer.open(row["token_sealed"], bound_to=tokens.seal_name(row["invitation_id"])).decode()
        result |= {
            "invitationId": row["invitation_id"],
            "invitationToken": token,
            "invitationLink": tokens.link_to(link_base_url, token),
        }
    if not succeeded:
        result["errorMessage"] = row["reason"] or CANCELLED
    refusal = Refusal(row["refusal"]) if row["refusal"] else None
    result["deliveryStatus"] = delivery_status(outcome, refusal)
    return result


def _evidence(row: Row, result: dict[str, Any]) -> dict[str, Any]:
    """Name a recipient's result without the phone: that has its sealed place in each invitation's own record."""
    return {"row": row["row_no"], "invitation_id": row["invitation_id"], "status": result["deliveryStatus"]}


def _answer_name(job_id: int) -> str:
    return f"job/{job_id}/answer"


def warnings_of(warnings: Sequence[str]) -> dict[str, list[str]]:
    """Give what an answer says besides, if anything."""
    return {"warnings": list(warnings)} if warnings else {}


def job_summary(job: Job) -> dict[str, Any]:
    """Name a job in an audit record."""
    return {"job_id": job.id, "rows": job.total_rows, "channel": job.channel}
