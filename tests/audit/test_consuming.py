"""Events from the broker into the log: each once, in a whole chain, with their lines, however often delivered."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from services.audit.context import AuditContext
from shared import telemetry, topology
from shared.events import AuditAudit, AuthAudit, InvitationsAudit, ReferralsAudit
from tests.audit.arrivals import QUEUE, WORK, an_audit_event, count, in_the_log
from tests.audit.material import verified
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.messages import depth, publishing, to_queue
from tests.support.running import running


async def test_an_event_becomes_a_record_and_a_line(
    context: AuditContext, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "audit.records")
    bodies = [
        an_audit_event(
            InvitationsAudit,
            1,
            action="invitations.bulk.started_on_behalf",
            on_behalf_of=6,
            details={"count": 5, "channel": "SMS"},
        ),
        an_audit_event(
            InvitationsAudit,
            2,
            action="invitations.invitation.created_on_behalf",
            personal={"phone": "+905421396386"},
            details={"invitation_id": 1234},
        ),
        an_audit_event(
            InvitationsAudit,
            3,
            action="invitations.invitation.sent_on_behalf",
            personal={"phone": "+905421396386"},
            details={"invitation_id": 1234},
        ),
        an_audit_event(
            InvitationsAudit,
            4,
            action="invitations.bulk.sent_on_behalf",
            details={"success_count": 5, "failed_count": 0, "results": [{"phone": "+905421396386"}]},
        ),
    ]
    async with publishing(broker) as publisher, running(context.database, broker, context=context, work=WORK):
        await publisher.publish([to_queue(QUEUE, body) for body in bodies])
        await in_the_log(context, 4)
    assert [record.getMessage() for record in caplog.records if record.name == "audit.records"] == [
        "📤 ADMIN 166 creating 5 farmer invitations on behalf of sponsor 6 via SMS",
        "✅ ADMIN created invitation 1234 for +90542***6386",
        "✅ ADMIN sent invitation 1234 to +90542***6386",
        "📧 ADMIN bulk farmer invitations completed. Success: 5, Failed: 0",
    ]


async def test_redelivered_and_reordered_events_are_recorded_once_in_a_whole_chain(
    context: AuditContext, broker: str
) -> None:
    kinds = (AuthAudit, ReferralsAudit, InvitationsAudit, AuditAudit)
    bodies = [an_audit_event(kind, number) for kind in kinds for number in range(1, 101)]
    deliveries = bodies * 3
    random.Random(6).shuffle(deliveries)
    async with publishing(broker) as publisher, running(context.database, broker, context=context, work=WORK):
        for start in range(0, len(deliveries), 300):
            await publisher.publish([to_queue(QUEUE, body) for body in deliveries[start : start + 300]])
        await in_the_log(context, len(bodies))
        await eventually(lambda: _is_empty(broker), what="an empty queue")
    assert await count(context) == len(bodies)
    assert (await verified(context)).findings == []


async def _is_empty(broker: str) -> bool:
    return await depth(broker, QUEUE) == 0


async def test_an_event_redelivered_after_the_inbox_forgot_it_is_still_recorded_once(
    context: AuditContext, broker: str
) -> None:
    body = an_audit_event()
    async with publishing(broker) as publisher, running(context.database, broker, context=context, work=WORK):
        await publisher.publish_one(to_queue(QUEUE, body))
        await in_the_log(context, 1)
        async with context.database.connection() as conn:
            await conn.execute("DELETE FROM inbox")
        await publisher.publish([to_queue(QUEUE, body), to_queue(QUEUE, an_audit_event(number=2))])
        await in_the_log(context, 2)
    assert await count(context) == 2


async def test_two_workers_at_once_make_one_chain(context: AuditContext, broker: str) -> None:
    bodies = [an_audit_event(number=number) for number in range(1, 1001)]
    async with (
        publishing(broker) as publisher,
        running(context.database, broker, context=context, work=WORK),
        running(context.database, broker, context=context, work=WORK),
    ):
        await publisher.publish([to_queue(QUEUE, body) for body in bodies])
        await in_the_log(context, len(bodies))
    report = await verified(context)
    assert (report.findings, report.records) == ([], 1000)


async def test_a_forged_name_becomes_a_dead_letter_and_stops_nobody(context: AuditContext, broker: str) -> None:
    forged = an_audit_event(InvitationsAudit, action="auth.sign_in.succeeded")
    async with publishing(broker) as publisher, running(context.database, broker, context=context, work=WORK):
        await publisher.publish([to_queue(QUEUE, forged), to_queue(QUEUE, an_audit_event())])
        await in_the_log(context, 1)
        await eventually(lambda: _has_dead_letter(broker), what="a dead letter")
    assert await count(context) == 1


async def _has_dead_letter(broker: str) -> bool:
    return await depth(broker, topology.dead_letters_of("audit")) == 1


async def test_hostile_text_is_recorded_whole(context: AuditContext, broker: str) -> None:
    hostile = "a\r\n✅ forged\x1b[2K\0 =cmd()|'x'!A1 \u202e" + "z" * 5000
    body = an_audit_event(
        reason=hostile, personal={"user_agent": hostile}, request_id=hostile, details={"name": hostile, hostile: 1}
    )
    async with publishing(broker) as publisher, running(context.database, broker, context=context, work=WORK):
        await publisher.publish_one(to_queue(QUEUE, body))
        await in_the_log(context, 1)
    assert (await verified(context)).findings == []


async def test_events_wait_for_the_database_and_none_is_lost(
    context: AuditContext, broker: str, databases: Databases
) -> None:
    bodies = [an_audit_event(number=number) for number in range(1, 301)]
    async with publishing(broker) as publisher, running(context.database, broker, context=context, work=WORK):
        await publisher.publish([to_queue(QUEUE, body) for body in bodies[:150]])
        for _ in range(5):
            await databases._administer(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname LIKE 'test_audit_%' AND pid <> pg_backend_pid()"
            )
            await publisher.publish([to_queue(QUEUE, body) for body in bodies[150:]])
            await asyncio.sleep(0.05)
        await in_the_log(context, len(bodies))
    report = await verified(context)
    assert (report.findings, report.records) == ([], 300)


async def test_a_line_carries_the_request_id_of_its_event(
    context: AuditContext, broker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers, level = logging.root.handlers[:], logging.root.level
    telemetry.configure_logging("audit", "worker", "INFO")
    try:
        async with publishing(broker) as publisher, running(context.database, broker, context=context, work=WORK):
            await publisher.publish_one(to_queue(QUEUE, an_audit_event(request_id="the-request")))
            await in_the_log(context, 1)
    finally:
        logging.basicConfig(level=level, handlers=handlers, force=True)
    assert '"request_id":"the-request"' in capsys.readouterr().out
