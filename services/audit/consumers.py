"""Everything that audit reacts to: the audit events of every service."""

from __future__ import annotations

import logging
from typing import Final

from services.audit import commands
from services.audit.context import AuditContext
from services.audit.domain.lines import line_for
from services.audit.domain.records import Arrival, Draft, draft
from shared import telemetry
from shared.bus.handling import Delivery, Handlers, batch
from shared.db import Connection
from shared.events import AuditAudit, AuthAudit, InvitationsAudit, ReferralsAudit

log = logging.getLogger("audit.records")

_LEVELS: Final = {"warning": logging.WARNING, "critical": logging.CRITICAL}


@batch
async def seal_events(context: AuditContext, conn: Connection, deliveries: list[Delivery]) -> None:
    """Seal what came into the chain and print each record as a line.

    The lines come last, before the commit: a commit that fails prints them again with the redelivery. A line twice
    is a nuisance, a record without its line would be a hole for whoever tails the log.
    """
    drafts = [draft(_arrival(delivery), context.personal_data) for delivery in deliveries]
    for sealed in await commands.seal(conn, drafts):
        _print(sealed, full_phones=context.settings.log_full_phones)


def _arrival(delivery: Delivery) -> Arrival:
    envelope = delivery.envelope
    return Arrival(
        event_id=envelope.id,
        service=envelope.publisher,
        source=envelope.source,
        type=envelope.event.routing_key,
        occurred_at=envelope.time,
        sequence=envelope.sequence,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        traceparent=envelope.traceparent,
        data=envelope.event.model_dump(mode="json"),
    )


def _print(sealed: Draft, *, full_phones: bool) -> None:
    content = sealed.content
    trace = telemetry.Trace(telemetry.sane_request_id(content["request_id"]), causation_id=content["id"])
    with telemetry.use(trace):
        line = line_for(content, sealed.personal, full_phones=full_phones)
        log.log(_LEVELS.get(content["severity"], logging.INFO), "%s", line, extra={"action": content["action"]})


HANDLERS: Final[Handlers] = dict.fromkeys((AuthAudit, ReferralsAudit, InvitationsAudit, AuditAudit), seal_events)
