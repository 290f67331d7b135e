"""Giving codes to the rows of a job and putting their messages in line: one transaction, a handful of statements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from services.invitations.commands import evidence
from services.invitations.domain import tokens
from services.invitations.domain.bulk import REASONS, Refusal, RowOutcome, SponsorDisabled
from services.invitations.domain.codes import Shortage, Tier, Want, allot, most_wanted
from services.invitations.domain.deliveries import State, delivery_id_of
from services.invitations.domain.jobs import Job
from services.invitations.store import accounts, codes, deliveries, invitations, jobs
from services.invitations.store.jobs import RowUpdate
from shared import outbox
from shared.db import Connection, Row
from shared.events import Event, InvitationCreated
from shared.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Terms:
    """How new invitations are made; whoever places them has claimed their messages and sends them at once."""

    sealer: Sealer
    providers: Mapping[str, str]
    expiry: timedelta
    claimed_by: str
    lease: timedelta
    is_commercial: bool


@dataclass(slots=True)
class Placement:
    """What came of the rows."""

    delivery_ids: list[UUID] = field(default_factory=list)
    shortages: list[Shortage] = field(default_factory=list)


class _Served(NamedTuple):
    """A row that gets its codes."""

    row: Row
    tier: Tier
    code_ids: list[int]


async def place_chunk(conn: Connection, job_id: int, first_row: int, last_row: int, terms: Terms) -> Placement:
    """Place the rows of a chunk that nobody has placed yet; doing it again changes nothing."""
    job = await jobs.get_job(conn, job_id)
    account = await accounts.lock_account(conn, job.sponsor_id)
    rows = await jobs.lock_waiting_rows(conn, job_id, first_row, last_row)
    if account is None or not account.is_active:
        reason = SponsorDisabled.message
        await jobs.save_rows(conn, [_refused(job, row, Refusal.SPONSOR_DISABLED, reason) for row in rows])
        return Placement()
    return await place_rows(conn, job, rows, terms)


async def place_rows(conn: Connection, job: Job, rows: Sequence[Row], terms: Terms) -> Placement:
    """Serve waiting rows in their order, each wholly or not at all. The caller holds the sponsor's lock."""
    placement = Placement()
    updates, eligible = await _set_aside(conn, job, rows)
    wants = [Want(row["code_count"], Tier(row["tier"]) if row["tier"] else None) for row in eligible]
    stock = await codes.list_available(conn, job.sponsor_id, most_wanted(wants))
    verdicts = allot(wants, {tier: len(code_ids) for tier, code_ids in stock.items()})
    left = {tier: iter(code_ids) for tier, code_ids in stock.items()}
    served: list[_Served] = []
    for row, verdict in zip(eligible, verdicts, strict=True):
        if isinstance(verdict, Shortage):
            placement.shortages.append(verdict)
            updates.append(_refused(job, row, Refusal.INSUFFICIENT_CODES, str(verdict)))
        else:
            served.append(_Served(row, verdict, list(islice(left[verdict], row["code_count"]))))
    if served:
        placement.delivery_ids = await _invite(conn, job, served, terms, updates)
    await jobs.save_rows(conn, updates)
    return placement


async def _set_aside(conn: Connection, job: Job, rows: Sequence[Row]) -> tuple[list[RowUpdate], list[Row]]:
    """Refuse farmers who want no messages or have an open invitation of this sponsor; gives the others."""
    phones = [row["phone"] for row in rows]
    await invitations.hold_opt_outs(conn)
    opted_out = await invitations.list_opted_out(conn, phones)
    invited = await invitations.list_invited(conn, job.sponsor_id, phones)
    updates, eligible = [], []
    for row in rows:
        if row["phone"] in opted_out:
            updates.append(_refused(job, row, Refusal.OPTED_OUT, REASONS[Refusal.OPTED_OUT]))
        elif row["phone"] in invited:
            updates.append(_refused(job, row, Refusal.ALREADY_INVITED, REASONS[Refusal.ALREADY_INVITED]))
        else:
            eligible.append(row)
    return updates, eligible


async def _invite(
    conn: Connection, job: Job, served: Sequence[_Served], terms: Terms, updates: list[RowUpdate]
) -> list[UUID]:
    """Make the invitations, reserve their codes, put their messages in line and say so."""
    ids = await invitations.draw_ids(conn, len(served))
    now = datetime.now(UTC)
    new_invitations = [
        _invitation(job, one.row, one.tier, invitation_id, terms, now)
        for one, invitation_id in zip(served, ids, strict=True)
    ]
    messages = [_delivery(job, invitation_id, terms, now) for invitation_id in ids]
    await invitations.insert_invitations(conn, new_invitations)
    await codes.reserve_codes(
        conn,
        [code_id for one in served for code_id in one.code_ids],
        [invitation_id for one, invitation_id in zip(served, ids, strict=True) for _ in one.code_ids],
    )
    await deliveries.insert_deliveries(conn, messages)
    updates.extend(RowUpdate(job.id, new.row_no, RowOutcome.SENDING, invitation_id=new.id) for new in new_invitations)
    await outbox.add_many(conn, _events(job, new_invitations))
    return [message.id for message in messages]


def _invitation(
    job: Job, row: Row, tier: Tier, invitation_id: int, terms: Terms, now: datetime
) -> invitations.NewInvitation:
    token = tokens.make_token()
    return invitations.NewInvitation(
        id=invitation_id,
        job_id=job.id,
        row_no=row["row_no"],
        sponsor_id=job.sponsor_id,
        phone=row["phone"],
        farmer_name=row["farmer_name"],
        email=row["email"],
        notes=row["notes"],
        tier=tier,
        code_count=row["code_count"],
        token_hash=tokens.hash_of(token),
        token_sealed=terms.sealer.seal(token.encode(), bound_to=tokens.seal_name(invitation_id)),
        expires_at=now + terms.expiry,
    )


def _delivery(job: Job, invitation_id: int, terms: Terms, now: datetime) -> deliveries.NewDelivery:
    return deliveries.NewDelivery(
        id=delivery_id_of(invitation_id, job.channel, 1),
        invitation_id=invitation_id,
        ordinal=1,
        channel=job.channel,
        provider=terms.providers[job.channel],
        state=State.CLAIMED,
        claimed_by=terms.claimed_by,
        lease_until=now + terms.lease,
        due_at=now,
    )


def _events(job: Job, new_invitations: Sequence[invitations.NewInvitation]) -> list[Event]:
    events: list[Event] = [
        InvitationCreated(
            invitation_id=new.id,
            sponsor_id=job.sponsor_id,
            package_tier=new.tier,
            code_count=new.code_count,
            job_id=job.id,
        )
        for new in new_invitations
    ]
    if job.on_behalf_of is not None:
        events += [
            evidence.on_invitation(job, evidence.INVITATION_CREATED, new.id, new.phone) for new in new_invitations
        ]
    return events


def _refused(job: Job, row: Row, refusal: Refusal, reason: str) -> RowUpdate:
    return RowUpdate(job.id, row["row_no"], RowOutcome.FAILED, refusal, reason)
