"""Step g: the audit log shows who did all that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from local.accounts import ADMIN_ID, SPONSOR_ID
from local.tour.guide import OK, Guide

EVENTS: Final = "/api/v1/audit/events"
ON_BEHALF_ACTIONS: Final = {
    "invitations.bulk.started_on_behalf": 1,
    "invitations.invitation.created_on_behalf": 2,
    "invitations.invitation.sent_on_behalf": 2,
    "invitations.bulk.sent_on_behalf": 1,
}
Event = dict[str, Any]


def find_evidence(guide: Guide) -> None:
    """Find everything again: by request id, by actor, by time, and in the audit worker's log."""
    _by_request(guide)
    _by_actor_and_time(guide)
    _in_the_log(guide)
    refused = guide.call(guide.caller("sponsor"), "GET", EVENTS)
    guide.check("a sponsor may not read the audit log", refused.status_code, 403)


def _by_request(guide: Guide) -> None:
    wanted = sum(ON_BEHALF_ACTIONS.values())
    events = _find(guide, lambda found: len(found) >= wanted, request_id=guide.request_ids["on behalf of"])
    actions = {action: sum(event["action"] == action for event in events) for action in ON_BEHALF_ACTIONS}
    guide.check("the call for sponsor 6, by its request id", actions, ON_BEHALF_ACTIONS)
    people = {f"{event['actor']['id']} for {event['on_behalf_of']}" for event in events}
    guide.check("who did it for whom", sorted(people), [f"{ADMIN_ID} for {SPONSOR_ID}"])
    outcome = next(event for event in events if event["action"] == "invitations.bulk.sent_on_behalf")
    counts = {name: outcome["details"][name] for name in ("success_count", "failed_count")}
    guide.check("its counts", counts, {"success_count": 2, "failed_count": 1})
    for name in ("sign-in", "upload", "sync", "partner center sign-in", "reset request", "reset"):
        events = _find(guide, bool, quietly=True, request_id=guide.request_ids[name])
        guide.teller.saw(f"{name}: {', '.join(sorted({event['action'] for event in events}))}")
        guide.check_that(f"the audit log knows this request: {name}", holds=bool(events))


def _by_actor_and_time(guide: Guide) -> None:
    window: dict[str, Any] = {"from": guide.started_at.isoformat(), "to": datetime.now(UTC).isoformat()}
    mine = _find(guide, bool, actor=ADMIN_ID, limit=200, **window)
    areas = {event["service"] for event in mine}
    guide.check_that(
        "admin 166 is found in three services", holds={"auth", "invitations", "referrals"} <= areas, instead=areas
    )
    guide.check("everything found is theirs", sorted({event["actor"]["id"] for event in mine}), [ADMIN_ID])
    times = [event["occurred_at"] for event in mine]
    guide.check_that("and the newest comes first", holds=times == sorted(times, reverse=True))
    before = _find(
        guide, lambda _: True, actor=ADMIN_ID, to=guide.started_at.isoformat(), action="invitations.bulk.sent_on_behalf"
    )
    guide.check("the same call before this tour began", len(before), 0)


def _in_the_log(guide: Guide) -> None:
    first, second = guide.results["invitations"]
    expected = [
        "📤 ADMIN 166 creating 3 farmer invitations on behalf of sponsor 6 via SMS",
        f"✅ ADMIN created invitation {first} for +90542***6386",
        f"✅ ADMIN created invitation {second} for +90555***4567",
        f"✅ ADMIN sent invitation {first} to +90542***6386",
        f"✅ ADMIN sent invitation {second} to +90555***4567",
        "📧 ADMIN bulk farmer invitations completed. Success: 2, Failed: 1",
    ]
    guide.wait_for(
        "the lines in the audit worker's log", lambda: set(expected) <= set(guide.log_lines("audit-worker")) or None
    )
    for line in expected:
        guide.teller.checked(f"in the audit worker's log: {line}")


def _find(guide: Guide, enough: Callable[[list[Event]], bool], *, quietly: bool = False, **filters: Any) -> list[Event]:
    """Ask the audit API until it has what must come; events need a moment on their way."""
    auditor = guide.caller("auditor")

    def ask() -> list[Event] | None:
        answer = guide.call(auditor, "GET", EVENTS, quietly=True, params=filters)
        guide.check_quietly("the audit API answers", answer.status_code, OK)
        items: list[Event] = answer.json()["items"]
        return items if enough(items) else None

    found = guide.wait_for(f"audit events with {filters}", ask)
    if not quietly:
        guide.teller.saw(f"GET {EVENTS} {filters}: {len(found)} events")
    return found
