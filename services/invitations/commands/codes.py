"""Filling a sponsor's stock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.invitations.domain.bulk import NotASponsor, SponsorUnknown
from services.invitations.domain.codes import Tier
from services.invitations.store import accounts, codes
from shared import audit, outbox
from shared.db import Connection
from shared.events import CodesAdded, InvitationsAudit
from shared.events.audit import Target
from shared.identity import Principal


async def add_codes(
    conn: Connection,
    caller: Principal,
    *,
    sponsor_id: int,
    tier: Tier,
    new_codes: Sequence[str],
    expires_at: datetime | None,
) -> None:
    """Add codes to a sponsor's stock, all or none."""
    account = await accounts.find_account(conn, sponsor_id)
    if account is None:
        raise SponsorUnknown
    if not account.is_sponsor:
        raise NotASponsor
    await codes.insert_codes(conn, sponsor_id, tier, new_codes, expires_at=expires_at, added_by=caller.id)
    await outbox.add(conn, CodesAdded(sponsor_id=sponsor_id, package_tier=tier, count=len(new_codes)))
    await audit.record(
        conn,
        InvitationsAudit,
        action="invitations.codes.added",
        actor=caller,
        target=Target(kind="sponsor", id=str(sponsor_id)),
        details={"tier": tier, "count": len(new_codes), "expires_at": expires_at.isoformat() if expires_at else None},
    )
