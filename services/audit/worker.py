"""The worker of audit: seals, signs checkpoints, verifies, makes partitions ahead of time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from services.audit import commands, store
from services.audit.commands.verification import Scope
from services.audit.consumers import HANDLERS
from services.audit.context import AuditContext, open_context
from services.audit.settings import AuditSettings
from shared import topology
from shared.worker import Schedule, Work, run_worker

_QUEUED_SECONDS: Final = 2.0
_PARTITION_SECONDS: Final = 3_600.0


async def run(settings: AuditSettings) -> None:
    """Run until told to stop."""
    async with open_context(settings) as context:
        await run_worker(
            settings,
            database=context.database,
            context=context,
            work=[Work(queue, HANDLERS) for queue in topology.AUDIT_EVENTS],
            schedules=schedules(context),
        )


def schedules(context: AuditContext) -> list[Schedule]:
    """List what the worker does by the clock."""
    settings = context.settings

    async def partitions() -> None:
        async with context.database.transaction() as conn:
            await commands.make_partitions(conn, settings.partitions_ahead)

    return [
        Schedule("partitions", _PARTITION_SECONDS, partitions),
        # Half the interval: a tick that comes a little early finds nothing to do, and the next one is not late.
        Schedule("checkpoint", settings.checkpoint_seconds / 2, lambda: sign_checkpoint(context)),
        Schedule("queue verification", settings.verification_seconds / 2, lambda: queue_verification(context)),
        Schedule("verification", _QUEUED_SECONDS, lambda: verify_queued(context)),
    ]


async def sign_checkpoint(context: AuditContext) -> None:
    """Sign a checkpoint when one is due, and bring the directory outside the database up to date."""
    async with context.database.transaction() as conn:
        await commands.take_checkpoint(
            conn, context.signing_key, every=timedelta(seconds=context.settings.checkpoint_seconds * 0.9)
        )
    async with context.database.connection() as conn:
        await commands.copy_checkpoints(conn, context.directory, context.verifier_keys)


async def queue_verification(context: AuditContext) -> None:
    """Queue the regular verification when it is due."""
    settings = context.settings
    async with context.database.transaction() as conn:
        await commands.queue_verification(
            conn,
            context.verifier_keys,
            every=timedelta(seconds=settings.verification_seconds * 0.9),
            whole_every=timedelta(seconds=settings.whole_verification_seconds),
        )


async def verify_queued(context: AuditContext) -> None:
    """Run the oldest queued verification, if there is one."""
    async with context.database.transaction() as conn:
        started = await commands.start_verification(conn, context.verifier_keys)
    if started is None:
        return
    job, after = started
    scope = Scope(
        keys=context.verifier_keys,
        personal_data=context.personal_data,
        outside=await asyncio.to_thread(context.directory.files, after.started_at if after else None),
        source_grace=timedelta(seconds=context.settings.source_grace_seconds),
        after=after,
    )
    async with context.database.connection() as conn:
        await store.hold_verification(conn, job["id"])
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            report = await commands.verify(conn, scope)
        async with conn.transaction():
            await commands.finish_verification(conn, job, report, context.signing_key)
