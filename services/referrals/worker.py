"""The worker of referrals, wired: syncs, polls of sign-ins, schedules."""

from __future__ import annotations

from typing import Final

from services.referrals.commands import connection, sign_in, sync
from services.referrals.consumers import HANDLERS
from services.referrals.context import make_context
from services.referrals.settings import ReferralsSettings
from shared import topology
from shared.worker import Schedule, Work
from shared.worker import run_worker as run

_SIGN_IN_SECONDS: Final = 1.0
_SYNC_SECONDS: Final = 5.0
_ALIVE_SECONDS: Final = 3_600.0


async def run_worker(settings: ReferralsSettings) -> None:
    """Run until told to stop."""
    context = make_context(settings)

    async def poll_sign_ins() -> None:
        await sign_in.poll_due_sign_ins(context.access)

    async def request_sync() -> None:
        await sync.request_due_sync(context.database, context.rules)

    async def keep_connection_alive() -> None:
        await connection.keep_connection_alive(context.access)

    try:
        await run(
            settings,
            database=context.database,
            context=context,
            work=[Work(topology.REFERRALS_SYNC, HANDLERS)],
            schedules=[
                Schedule("poll sign-ins", _SIGN_IN_SECONDS, poll_sign_ins),
                Schedule("request sync", min(_SYNC_SECONDS, settings.sync_interval_seconds), request_sync),
                Schedule("keep connection alive", _ALIVE_SECONDS, keep_connection_alive),
            ],
        )
    finally:
        await context.close()
