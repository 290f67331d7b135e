"""Audit events of acting on a sponsor's behalf; the audit worker prints the log lines that operators know from them."""

from collections.abc import Sequence
from typing import Any

from services.invitations.domain.jobs import Job
from shared import audit, telemetry
from shared.db import Connection
from shared.errors import Failure, Forbidden
from shared.events import InvitationsAudit
from shared.events.audit import Target
from shared.identity import Principal

BULK_STARTED = "invitations.bulk.started_on_behalf"
BULK_SENT = "invitations.bulk.sent_on_behalf"
INVITATION_CREATED = "invitations.invitation.created_on_behalf"
INVITATION_SENT = "invitations.invitation.sent_on_behalf"


def on_invitation(job: Job, action: str, invitation_id: int, phone: str) -> InvitationsAudit:
    """Describe what an admin's call did to one invitation, whichever process did it in the end."""
    return InvitationsAudit(
        action=action,
        actor=job.actor,
        target=Target(kind="invitation", id=str(invitation_id)),
        on_behalf_of=job.sponsor_id,
        request_id=job.request_id,
        personal={"phone": phone},
        details={"invitation_id": invitation_id, "job_id": job.id},
    )


async def record_started(conn: Connection, job: Job) -> None:
    """Record that an admin began to invite farmers for a sponsor."""
    await audit.record(
        conn,
        InvitationsAudit,
        action=BULK_STARTED,
        actor=job.actor,
        target=_job(job),
        on_behalf_of=job.sponsor_id,
        severity="notice",
        details={"count": job.total_rows, "channel": job.channel, "door": job.door},
    )


async def record_sent(
    conn: Connection, job: Job, *, succeeded: int, failed: int, results: Sequence[dict[str, Any]]
) -> None:
    """Record how an admin's call for a sponsor ended, with each recipient's result."""
    await audit.record(
        conn,
        InvitationsAudit,
        action=BULK_SENT,
        actor=job.actor,
        target=_job(job),
        on_behalf_of=job.sponsor_id,
        severity="notice",
        details={
            "success_count": succeeded,
            "failed_count": failed,
            "channel": job.channel,
            "results": list(results),
            "call_request_id": job.request_id,
        },
    )


async def record_refused(
    conn: Connection, caller: Principal, sponsor_id: int, failure: Failure, *, count: int | None
) -> None:
    """Record that a call for a sponsor was refused, and why; `count` is the number of recipients, if it was known."""
    await audit.record(
        conn,
        InvitationsAudit,
        action=BULK_SENT,
        actor=caller,
        target=Target(kind="sponsor", id=str(sponsor_id)),
        on_behalf_of=sponsor_id,
        outcome="denied" if isinstance(failure, Forbidden) else "failure",
        reason=failure.code,
        severity="warning" if isinstance(failure, Forbidden) else "notice",
        details={} if count is None else {"count": count},
    )


def request_id() -> str:
    """Give the id of the request at hand."""
    return telemetry.current().request_id


def _job(job: Job) -> Target:
    return Target(kind="bulk_job", id=str(job.id))
