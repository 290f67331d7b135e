"""What referrals reacts to."""

from __future__ import annotations

from typing import Final

from services.referrals.commands import sync
from services.referrals.context import Context
from shared.bus.handling import Handlers, outside
from shared.events import ReferralSyncRequested


@outside
async def run_sync(context: Context, event: ReferralSyncRequested) -> None:
    """Carry out the sync that was asked for; called again for the same task, it goes on or does nothing."""
    await sync.run_sync(context.access, context.partner_center, context.rules, event.task_id)


HANDLERS: Final[Handlers] = {ReferralSyncRequested: run_sync}
