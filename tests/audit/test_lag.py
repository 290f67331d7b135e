"""How soon an event can be found, and what a flood of one service does to the others and to what was there before."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.audit.context import AuditContext
from shared import outbox
from shared.events import AuditAudit
from tests.audit.material import verified
from tests.audit.test_consuming import ADMIN, WORK, count, in_the_log
from tests.support.running import running

RATE, SECONDS = 500, 6


@pytest.mark.slow
async def test_at_500_events_a_second_they_are_found_within_a_second(context: AuditContext, broker: str) -> None:
    async with running(context.database, broker, context=context, work=WORK):
        await _produce(context, RATE, SECONDS)
        await in_the_log(context, RATE * SECONDS, within=30)
    async with context.database.connection() as conn:
        # Not the very last one: a test's machine has other things to do as well.
        late = await conn.fetchval(
            """SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM recorded_at - occurred_at))
               FROM records"""
        )
    assert late < 1
    assert (await verified(context)).findings == []


async def _produce(context: AuditContext, rate: int, seconds: int) -> None:
    """Decide events at an even rate, from the outbox on, as services do."""
    started = time.monotonic()
    for tick in range(seconds * 20):
        await asyncio.sleep(max(0.0, started + tick / 20 - time.monotonic()))
        async with context.database.transaction() as conn:
            await outbox.add_many(
                conn,
                [AuditAudit(action="audit.log.read", actor=ADMIN, request_id=f"r-{tick}") for _ in range(rate // 20)],
            )


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_flood_pushes_nothing_out(context: AuditContext, broker: str) -> None:
    async with running(context.database, broker, context=context, work=WORK):
        await _produce(context, 20, 1)
        await in_the_log(context, 20)
        async with context.database.transaction() as conn:
            flood = [AuditAudit(action="audit.log.read", actor=ADMIN, request_id="flood") for _ in range(50_000)]
            await outbox.add_many(conn, flood)
        await in_the_log(context, 50_020, within=300)
    assert await count(context) == 50_020
    report = await verified(context)
    assert (report.records, report.findings) == (50_020, [])
