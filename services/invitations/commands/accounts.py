"""Keeping the local copy of accounts."""

from services.invitations.domain.bulk import OnBehalfOfNotPermitted, SponsorUnknown
from services.invitations.domain.quiet import QuietHours
from services.invitations.store import accounts, deliveries
from shared import audit
from shared.db import Connection
from shared.events import InvitationsAudit
from shared.events.audit import Target
from shared.events.auth import Account
from shared.identity import Principal


async def copy_account(conn: Connection, account: Account) -> None:
    """Copy what auth tells; an older version than the one here changes nothing."""
    await accounts.save_account(
        conn,
        account_id=account.user_id,
        version=account.version,
        full_name=account.full_name,
        roles=account.roles,
        is_active=account.is_active,
    )


def check_may_act_for(caller: Principal, sponsor_id: int) -> None:
    """Refuse whoever is not this sponsor and holds no grant for it; to look is free for every admin, to act is not."""
    if caller.id != sponsor_id and not caller.may_act_for(sponsor_id):
        raise OnBehalfOfNotPermitted


async def set_quiet_hours(conn: Connection, caller: Principal, quiet: QuietHours | None) -> None:
    """Keep a sponsor's messages back during these hours; those that wait already are looked at anew."""
    if await accounts.find_account(conn, caller.id) is None:
        raise SponsorUnknown
    await accounts.save_quiet_hours(conn, caller.id, quiet)
    await deliveries.end_waiting(conn, caller.id)
    await audit.record(
        conn,
        InvitationsAudit,
        action="invitations.quiet_hours.changed",
        actor=caller,
        target=Target(kind="sponsor", id=str(caller.id)),
        details={"from": str(quiet.starts) if quiet else None, "to": str(quiet.ends) if quiet else None},
    )
