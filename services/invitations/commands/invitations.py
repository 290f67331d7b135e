"""What happens to one invitation: accepted, refused by the farmer, sent again, taken back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.invitations.commands.accounts import check_may_act_for
from services.invitations.commands.ending import end_invitations
from services.invitations.domain import tokens
from services.invitations.domain.bulk import SponsorDisabled
from services.invitations.domain.deliveries import State, delivery_id_of
from services.invitations.domain.invitations import (
    FarmerOptedOut,
    InvitationExpired,
    MessageUnsettled,
    NotPending,
    ResentTooSoon,
    Status,
    check_open,
)
from services.invitations.store import accounts, codes, deliveries, invitations, jobs
from shared import audit, outbox
from shared.db import Connection, Row
from shared.errors import Failure
from shared.events import InvitationAccepted, InvitationsAudit
from shared.events.audit import Actor, Target
from shared.identity import Principal

_UNSETTLED = frozenset({State.QUEUED, State.CLAIMED, State.SENDING, State.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the farmer gets."""

    sponsor_name: str
    tier: str
    codes: list[str]


async def accept_invitation(conn: Connection, token: str) -> Acceptance:
    """Spend the codes of an invitation for its farmer, once; raises why it can't be accepted any more."""
    invitation = await invitations.get_by_token(conn, tokens.hash_of(token), lock=True)
    check_acceptable(invitation)
    spent = await codes.spend_codes(conn, invitation["id"])
    await invitations.close_invitations(conn, [invitation["id"]], Status.ACCEPTED, "ACCEPTED")
    await outbox.add(conn, InvitationAccepted(invitation_id=invitation["id"], sponsor_id=invitation["sponsor_id"]))
    await _record(conn, "invitations.invitation.accepted", Actor(kind="anonymous"), invitation, {"codes": len(spent)})
    return Acceptance(invitation["sponsor_name"], invitation["tier"], spent)


def check_acceptable(invitation: Row) -> None:
    """Raise what the farmer is told unless the invitation is open; the sweeper may be a little late."""
    check_open(Status(invitation["status"]))
    if invitation["expires_at"] <= datetime.now(UTC):
        raise InvitationExpired


async def opt_out(conn: Connection, token: str) -> None:
    """Note that a farmer wants no messages, from no sponsor; every open invitation of theirs ends."""
    invitation = await invitations.get_by_token(conn, tokens.hash_of(token))
    if not await invitations.insert_opt_out(conn, invitation["phone"]):
        return
    open_ids = await invitations.list_open_of(conn, invitation["phone"])
    await end_invitations(conn, open_ids, Status.CANCELLED, "OPTED_OUT")
    await _record(conn, "invitations.farmer.opted_out", Actor(kind="anonymous"), invitation, {"ended": len(open_ids)})


async def cancel_invitation(conn: Connection, caller: Principal, invitation_id: int) -> None:
    """Take an open invitation back; its codes are free again."""
    invitation = await invitations.lock_invitation(conn, invitation_id)
    check_may_act_for(caller, invitation["sponsor_id"])
    if Status(invitation["status"]) is not Status.PENDING:
        raise NotPending
    await end_invitations(conn, [invitation_id], Status.CANCELLED, "CANCELLED")
    await _record(conn, "invitations.invitation.cancelled", caller, invitation, {})


async def resend_invitation(
    conn: Connection, caller: Principal, invitation_id: int, *, provider: str, pause: timedelta
) -> str:
    """Put another message for the same invitation and the same codes in line; gives the delivery's id."""
    invitation = await invitations.lock_invitation(conn, invitation_id)
    check_may_act_for(caller, invitation["sponsor_id"])
    account = await accounts.find_account(conn, invitation["sponsor_id"])
    if account is None or not account.is_active:
        raise SponsorDisabled
    check_open_to_sponsor(invitation)
    last = await deliveries.find_last(conn, invitation_id)
    if last is not None:
        _check_last(last, pause)
    if await invitations.list_opted_out(conn, [invitation["phone"]]):
        raise FarmerOptedOut
    job = await jobs.get_job(conn, invitation["job_id"])
    ordinal = last["ordinal"] + 1 if last else 1
    delivery = deliveries.NewDelivery(
        id=delivery_id_of(invitation_id, job.channel, ordinal),
        invitation_id=invitation_id,
        ordinal=ordinal,
        channel=job.channel,
        provider=provider,
        state=State.QUEUED,
        claimed_by=None,
        lease_until=None,
        due_at=datetime.now(UTC),
    )
    await deliveries.insert_deliveries(conn, [delivery])
    await _record(conn, "invitations.invitation.resent", caller, invitation, {"ordinal": ordinal})
    return str(delivery.id)


def check_open_to_sponsor(invitation: Row) -> None:
    """Raise NotPending unless the invitation is open."""
    if Status(invitation["status"]) is not Status.PENDING or invitation["expires_at"] <= datetime.now(UTC):
        raise NotPending


def _check_last(last: Row, pause: timedelta) -> None:
    if State(last["state"]) in _UNSETTLED:
        raise MessageUnsettled
    left = last["went_at"] + pause - datetime.now(UTC)
    if left > timedelta(0):
        raise ResentTooSoon(retry_after=int(left.total_seconds()) + 1)


async def _record(
    conn: Connection, action: str, actor: Principal | Actor, invitation: Row, details: dict[str, Any]
) -> None:
    sponsor_id = invitation["sponsor_id"]
    acts_for_another = isinstance(actor, Principal) and actor.id != sponsor_id
    await audit.record(
        conn,
        InvitationsAudit,
        action=action,
        actor=actor,
        target=Target(kind="invitation", id=str(invitation["id"])),
        on_behalf_of=sponsor_id if acts_for_another else None,
        personal={"phone": invitation["phone"]},
        details=details,
    )


async def record_refused_acceptance(conn: Connection, token: str, failure: Failure) -> None:
    """Record that somebody tried a link that can't be accepted any more."""
    invitation = await invitations.get_by_token(conn, tokens.hash_of(token))
    await audit.record(
        conn,
        InvitationsAudit,
        action="invitations.invitation.accepted",
        actor=Actor(kind="anonymous"),
        outcome="failure",
        reason=failure.code,
        target=Target(kind="invitation", id=str(invitation["id"])),
    )
