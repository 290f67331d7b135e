"""The worker of invitations: outbox relay, consumers, senders, sweepers."""

from __future__ import annotations

from services.invitations.commands import sweeping
from services.invitations.consumers import CHUNK_HANDLERS, EVENT_HANDLERS
from services.invitations.context import Context, open_context
from services.invitations.settings import InvitationsSettings
from shared import topology
from shared.worker import Schedule, Work
from shared.worker import run_worker as run_shared_worker

_FINISH_SECONDS = 0.5
_EXPIRE_SECONDS = 30.0
_REROUTE_SECONDS = 30.0
_FORGET_SECONDS = 3_600.0
# A call that has not answered this long after its deadline has lost its process.
_ABANDONED_SECONDS = 30.0


async def run_worker(settings: InvitationsSettings) -> None:
    """Run until told to stop."""
    async with open_context(settings) as context:
        await run_shared_worker(
            settings,
            database=context.database,
            context=context,
            work=[
                Work(topology.INVITATIONS_EVENTS, EVENT_HANDLERS),
                Work(topology.INVITATIONS_CHUNKS, CHUNK_HANDLERS),
            ],
            schedules=_schedules(context),
        )


def _schedules(context: Context) -> list[Schedule]:
    database, settings = context.database, context.settings

    async def sweep() -> None:
        await sweeping.sweep_deliveries(database)

    async def reroute() -> None:
        await sweeping.reroute_messages(database, context.providers, context.terms().providers)

    async def look_up() -> None:
        await sweeping.look_up_unknown(database, context.providers, context.sealer)

    async def finish() -> None:
        async with database.transaction() as conn:
            await sweeping.finish_jobs(conn)

    async def expire() -> None:
        await sweeping.expire_invitations(database)

    async def forget() -> None:
        async with database.transaction() as conn:
            await sweeping.forget_keys(conn)

    async def report() -> None:
        await sweeping.report_abandoned_calls(
            database, context.sealer, settings.bulk_deadline_seconds + _ABANDONED_SECONDS, settings.link_base_url
        )

    return [
        Schedule("send messages", settings.poll_seconds, context.sender.run),
        Schedule("sweep deliveries", settings.sweep_seconds, sweep),
        Schedule("reroute messages", _REROUTE_SECONDS, reroute),
        Schedule("look up unknown outcomes", settings.sweep_seconds, look_up),
        Schedule("finish jobs", _FINISH_SECONDS, finish),
        Schedule("expire invitations", _EXPIRE_SECONDS, expire),
        Schedule("report abandoned calls", _ABANDONED_SECONDS, report),
        Schedule("forget idempotency keys", _FORGET_SECONDS, forget),
    ]
