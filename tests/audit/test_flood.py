"""What a flood of one service does to the others, and to what was there before: nothing."""

from __future__ import annotations

import asyncio

import pytest

from services.audit.context import AuditContext
from shared.events import AuthAudit, InvitationsAudit, ReferralsAudit
from tests.audit.arrivals import OTHER_QUEUE, QUEUE, THIRD_QUEUE, WORK, an_audit_event, count, in_the_log
from tests.audit.material import verified
from tests.support.messages import publishing, to_queue
from tests.support.running import running

# What the flood may get sealed while another service's event takes its turn: a few batches of 200, on each worker.
SHARE = 2_000


async def flood(context: AuditContext, broker: str, size: int) -> None:
    """Let one service flood the log, and two others say something before, in the middle, and near the end."""
    bodies = [an_audit_event(AuthAudit, number, request_id="the-flood") for number in range(1, size + 1)]
    others = ((OTHER_QUEUE, ReferralsAudit), (THIRD_QUEUE, InvitationsAudit))
    sealed_before: dict[str, int] = {}
    async with publishing(broker) as publisher, running(context.database, broker, context=context, work=WORK):
        for queue, kind in others:
            await publisher.publish_one(to_queue(queue, an_audit_event(kind, 1, request_id="before")))
        await in_the_log(context, 2)
        for start in range(0, size, 500):
            await publisher.publish([to_queue(QUEUE, body) for body in bodies[start : start + 500]])
        for number, part in ((2, 0.3), (3, 0.6)):
            await in_the_log(context, int(size * part), within=600)
            for queue, kind in others:
                name = f"{kind.publisher()}-{number}"
                await publisher.publish_one(to_queue(queue, an_audit_event(kind, number, request_id=name)))
                sealed_before[name] = await count(context)  # from here on the flood gets its share while it waits
        await in_the_log(context, size + 6, within=900)
    async with context.database.connection() as conn:
        rows = await conn.fetch("SELECT request_id, seq FROM records WHERE request_id <> ALL('{the-flood,before}')")
        first = await conn.fetchval("SELECT count(*) FROM records WHERE request_id = 'before' AND seq < 3")
    waited = {row["request_id"]: row["seq"] - sealed_before[row["request_id"]] for row in rows}
    assert waited.keys() == sealed_before.keys()
    assert max(waited.values()) < SHARE, waited
    assert (first, await count(context)) == (2, size + 6)
    report = await verified(context)
    assert (report.records, report.findings) == (size + 6, [])


async def test_a_flood_of_one_service_neither_holds_up_nor_pushes_out_the_events_of_others(
    context: AuditContext, broker: str
) -> None:
    await asyncio.wait_for(flood(context, broker, 6_000), timeout=170)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_nor_does_a_flood_of_fifty_thousand(context: AuditContext, broker: str) -> None:
    await flood(context, broker, 50_000)
