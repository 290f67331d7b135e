"""What the answers and reports of providers change: the message, its row in the job, the invitation, the codes."""

from collections.abc import Iterable, Sequence

from services.invitations.commands import evidence
from services.invitations.domain.bulk import NEEDS_REVIEW, REASONS, Refusal, RowOutcome
from services.invitations.domain.deliveries import State
from services.invitations.domain.invitations import Status
from services.invitations.domain.messages import DeliveryStatus, StatusReport
from services.invitations.store import codes, deliveries, invitations, jobs
from services.invitations.store.deliveries import Answer
from services.invitations.store.jobs import RowUpdate
from shared import outbox
from shared.db import Connection, Row
from shared.events import Event, InvitationFailed, InvitationSent

_IN_FLIGHT = frozenset({State.QUEUED, State.CLAIMED, State.SENDING, State.UNKNOWN, State.NEEDS_REVIEW})
_ROW_OUTCOMES = {
    State.QUEUED: RowOutcome.SENDING,
    State.UNKNOWN: RowOutcome.UNKNOWN,
    State.NEEDS_REVIEW: RowOutcome.NEEDS_REVIEW,
}
_UNDELIVERED = frozenset({DeliveryStatus.UNDELIVERED, DeliveryStatus.FAILED})
_STATUSES = frozenset(status.value for status in DeliveryStatus)


async def settle_answers(conn: Connection, answers: Sequence[Answer]) -> None:
    """Take note of what providers answered to attempts, and of all that follows from it."""
    settlements = [answer.settlement for answer in answers]
    await deliveries.close_attempts(conn, answers)
    moved = await deliveries.settle(conn, settlements)
    if len(moved) < len(settlements):
        await deliveries.note_provider_ids(conn, settlements)
    await apply_moves(conn, moved)


async def settle_report(conn: Connection, report: StatusReport) -> bool:
    """Take note of a delivery report; says whether it told anything new. Late and repeated ones change nothing."""
    message = await deliveries.lock_reported(conn, report.delivery_id, report.provider_id)
    if message is None:
        return False
    state = State(message["state"])
    known = DeliveryStatus(state) if state in _STATUSES else None
    if (known is None and state not in _IN_FLIGHT) or not report.status.replaces(known):
        return False
    moved = await deliveries.move_forward(conn, message["id"], report.status, report.provider_id, report.error_code)
    if moved is None:
        return False
    if known is None:
        await apply_moves(conn, [moved])
    elif report.status in _UNDELIVERED:
        await _say_undelivered(conn, moved)
    return True


async def apply_moves(conn: Connection, moved: Sequence[Row]) -> None:
    """Carry what messages of open outcome have become over to rows, invitations, codes and events."""
    if not moved:
        return
    belongings = await deliveries.list_belongings(conn, [row["invitation_id"] for row in moved])
    job_of = await jobs.list_jobs(conn, list({row["job_id"] for row in belongings.values()}))
    refused = [row for row in moved if row["state"] == State.REJECTED and row["ordinal"] == 1]
    undelivered = [row for row in moved if row["state"] in _UNDELIVERED]
    await jobs.save_rows(
        conn, [_row_update(row, belongings[row["invitation_id"]]) for row in moved if _touches_row(row)]
    )
    await _take_back(conn, [row["invitation_id"] for row in refused])
    events: list[Event] = []
    for row in moved:
        about = belongings[row["invitation_id"]]
        if row["state"] in _STATUSES:
            events.append(_sent(row, about))
            job = job_of[about["job_id"]]
            if job.on_behalf_of is not None:
                events.append(evidence.on_invitation(job, evidence.INVITATION_SENT, about["id"], about["phone"]))
    events += [_failed(belongings[row["invitation_id"]], row) for row in [*refused, *undelivered]]
    await outbox.add_many(conn, events)


async def _take_back(conn: Connection, invitation_ids: Sequence[int]) -> None:
    """End invitations that no message can announce; their codes are free again."""
    if invitation_ids:
        closed = await invitations.close_invitations(conn, invitation_ids, Status.CANCELLED, "DELIVERY_REJECTED")
        await codes.release_codes(conn, [row["id"] for row in closed])


async def _say_undelivered(conn: Connection, message: Row) -> None:
    belongings = await deliveries.list_belongings(conn, [message["invitation_id"]])
    await outbox.add(conn, _failed(belongings[message["invitation_id"]], message))


def _touches_row(message: Row) -> bool:
    """Say whether the row changes with it: a resend that fails leaves the row as the first message left it."""
    return message["ordinal"] == 1 or message["state"] in _STATUSES


def _row_update(message: Row, about: Row) -> RowUpdate:
    state = State(message["state"])
    if state is State.REJECTED:
        reason = f"{REASONS[Refusal.DELIVERY]} {message['error_message'] or ''} ({message['error_code']})"
        return RowUpdate(about["job_id"], about["row_no"], RowOutcome.FAILED, Refusal.DELIVERY, reason)
    outcome = _ROW_OUTCOMES.get(state, RowOutcome.SENT)
    note = NEEDS_REVIEW if outcome is RowOutcome.NEEDS_REVIEW else None
    return RowUpdate(about["job_id"], about["row_no"], outcome, reason=note)


def _sent(message: Row, about: Row) -> InvitationSent:
    return InvitationSent(
        invitation_id=about["id"],
        sponsor_id=about["sponsor_id"],
        channel=message["channel"],
        provider=message["provider"],
    )


def _failed(about: Row, message: Row) -> InvitationFailed:
    reason = message["error_code"] or message["state"]
    return InvitationFailed(invitation_id=about["id"], sponsor_id=about["sponsor_id"], reason=reason)


async def settle_reports(conn: Connection, reports: Iterable[StatusReport]) -> int:
    """Take note of several reports; gives how many told something new."""
    news = 0
    # In one order everywhere, so that two transactions with reports of the same messages wait for each other in turn.
    for report in sorted(reports, key=lambda report: (str(report.delivery_id), report.provider_id or "")):
        news += await settle_report(conn, report)
    return news
