"""What happens on honest days is no tampering: verification goes on while events arrive, checkpoints are signed, people
are erased, and processes die in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from services.audit.context import AuditContext
from services.audit.worker import queue_verification, sign_checkpoint, verify_queued
from tests.audit.material import a_signed_checkpoint, an_arrival, erase, sealed, verified
from tests.support.eventually import eventually

_VERIFICATIONS = 15


async def test_verification_while_the_log_grows_raises_no_alarm(context: AuditContext) -> None:
    settings = context.settings
    object.__setattr__(settings, "checkpoint_seconds", 0.0)
    object.__setattr__(settings, "verification_seconds", 0.0)
    over = asyncio.Event()
    number = 0

    async def seal() -> None:
        nonlocal number
        number += 5
        # As redeliveries come: the second half of a batch before the first.
        late = [an_arrival(sequence=each) for each in range(number - 4, number + 1)]
        await sealed(context, *late[3:], *late[:3])

    async def again_and_again(work: Callable[[], Awaitable[object]]) -> None:
        while not over.is_set():
            await work()
            await asyncio.sleep(0.01)

    async def by_the_clock() -> None:
        await queue_verification(context)
        await verify_queued(context)

    busy = [
        asyncio.create_task(again_and_again(work))
        for work in (
            seal,
            lambda: erase(context, actor_id=166),
            lambda: sign_checkpoint(context),
            lambda: a_signed_checkpoint(context),
            by_the_clock,
        )
    ]
    reports = [await verified(context)]

    async def grew_meanwhile() -> bool:
        reports.append(await verified(context))
        async with context.database.connection() as conn:
            by_clock: int = await conn.fetchval("SELECT count(*) FROM verifications WHERE status = 'finished'")
        return len(reports) >= _VERIFICATIONS and by_clock > 1 and reports[-1].records > reports[0].records

    await eventually(grew_meanwhile, what="a log that grows while it is verified")
    over.set()
    await asyncio.gather(*busy)
    assert [finding for report in reports for finding in report.findings] == []
    async with context.database.connection() as conn:
        assert await conn.fetchval("SELECT bool_and(ok) FROM verifications WHERE status = 'finished'")
    assert (await verified(context)).ok
