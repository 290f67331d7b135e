"""What makes audit write about itself: readers, exports, verifications, erasures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import httpx

from local.sql import query
from tests.system.matrix.hub import EVENTS, Hub
from tests.system.matrix.scenario import Scenarios, Sign, sign

SCENARIOS: Final = Scenarios()
_API: Final = "/api/v1/audit"


@SCENARIOS.leaves("audit.log.read success info", "audit.event.read success info", "audit.log.exported success notice")
def an_auditor_reads_and_takes_a_copy(hub: Hub) -> Iterator[Sign]:
    auditor = hub.caller("auditor")
    page = auditor.call("GET", EVENTS, params={"limit": 1})
    yield sign("audit.log.read success info", "user", request=page)
    event_id = page.json()["items"][0]["id"]
    opened = auditor.call("GET", f"{EVENTS}/{event_id}")
    yield sign("audit.event.read success info", "user", f"audit_event:{event_id}", request=opened)
    copied = auditor.call("GET", f"{_API}/export", params={"service": "invitations"})
    yield sign("audit.log.exported success notice", "user", request=copied)


@SCENARIOS.leaves("audit.access.refused denied warning")
def a_sponsor_wants_to_read_the_log(hub: Hub) -> Iterator[Sign]:
    refused = hub.caller("sponsor").call("GET", EVENTS)
    assert refused.status_code == 403
    yield sign("audit.access.refused denied warning", "user", request=refused)


@SCENARIOS.leaves("audit.personal_data.erased success notice")
def an_operator_erases_a_person(hub: Hub) -> Iterator[Sign]:
    code, printed = hub.operate("audit", "erase", "--reason", "asked for", "--email", "nobody@example.com")
    assert code == 0, printed
    yield sign("audit.personal_data.erased success notice", "operator")


@SCENARIOS.leaves(
    "audit.verification.requested success info",
    "audit.verification.completed success info",
    "audit.verification.completed failure critical",
    "audit.finding.acknowledged success warning",
)
def the_log_is_verified_whole_and_tampered_with(hub: Hub) -> Iterator[Sign]:
    whole = _verified(hub, "auditor")
    yield sign("audit.verification.requested success info", "user", request=whole)
    yield sign("audit.verification.completed success info", "user", request=whole)
    _change_first_record(hub, "service || '?'")
    tampered = _verified(hub, "admin")
    yield sign("audit.verification.completed failure critical", "admin", request=tampered)
    code, printed = hub.operate("audit", "acknowledge", "--kind", "COLUMN", "--reason", "we have tried it")
    assert code == 0, printed
    yield sign("audit.finding.acknowledged success warning", "operator")
    _change_first_record(hub, "rtrim(service, '?')")


def _verified(hub: Hub, reader: str) -> httpx.Response:
    """Ask for a verification of the whole log and wait for its end."""
    asked = hub.caller(reader).call("POST", f"{_API}/verification").raise_for_status()

    def ended() -> bool:
        return bool(hub.caller(reader).call("GET", f"{_API}/verification").json()["id"] == asked.json()["id"])

    hub.eventually(ended, what="the end of a verification")
    return asked


def _change_first_record(hub: Hub, service: str) -> None:
    """Change a column of the log as only the owner of the database can, past every trigger."""
    change = f"UPDATE audit.records SET service = {service} WHERE seq = 1"  # noqa: S608  written above
    query(hub.stack["postgres_url"], f"DO $$ BEGIN SET LOCAL session_replication_role = replica; {change}; END $$")
