"""The worker of auth: letters, the end of break-glass, forgetting what is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from services.auth.commands.emergency import end_temporary_admins
from services.auth.commands.housekeeping import forget_old
from services.auth.consumers import HANDLERS
from services.auth.context import Context, open_context
from services.auth.settings import AuthSettings
from shared import topology
from shared.worker import Schedule, Work, run_worker

_TEMPORARY_ADMIN_SECONDS: Final = 15.0
_FORGET_SECONDS: Final = 3_600.0
# Longer than any token lives, so that a stolen refresh token is still known as such.
_KEEP_SESSIONS: Final = timedelta(days=7)


async def run(settings: AuthSettings) -> None:
    """Run until told to stop."""
    async with open_context(settings) as context:
        await run_worker(
            settings,
            database=context.database,
            context=context,
            work=[Work(topology.AUTH_EVENTS, HANDLERS)],
            schedules=schedules(context),
        )


def schedules(context: Context) -> list[Schedule]:
    """List what the worker does by the clock."""

    async def end_admins() -> None:
        async with context.database.transaction() as conn:
            await end_temporary_admins(conn, now=context.clock())

    async def forget() -> None:
        async with context.database.transaction() as conn:
            await forget_old(conn, context.rules, keep_sessions=_KEEP_SESSIONS, now=context.clock())

    return [
        Schedule("temporary admins", _TEMPORARY_ADMIN_SECONDS, end_admins),
        Schedule("forget", _FORGET_SECONDS, forget),
    ]
