"""What makes invitations write an audit event: admins and sponsors who invite, farmers who answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx

from local.accounts import SPONSOR_ID
from local.tour.spreadsheets import CONTENT_TYPE, make_list, valid_rows
from tests.system.matrix.hub import Hub
from tests.system.matrix.scenario import Scenarios, Sign, sign

SCENARIOS: Final = Scenarios()
_API: Final = "/api/Sponsorship"
_BULK: Final = f"{_API}/farmer/invitations/bulk"
_ON_BEHALF: Final = f"{_API}/admin/farmer/invitations/bulk"
_SPONSOR: Final = f"sponsor:{SPONSOR_ID}"
_NOBODY: Final = 999_999
_ISTANBUL: Final = ZoneInfo("Europe/Istanbul")


@SCENARIOS.leaves("invitations.codes.added success info")
def a_stock_grows(hub: Hub) -> Iterator[Sign]:
    body = {"sponsorId": SPONSOR_ID, "tier": "S", "count": 5}
    added = hub.caller("admin").call("POST", f"{_API}/admin/codes", json=body)
    yield sign("invitations.codes.added success info", "admin", _SPONSOR, request=added)


@SCENARIOS.leaves(
    "invitations.bulk.started_on_behalf success notice",
    "invitations.invitation.created_on_behalf success info",
    "invitations.invitation.sent_on_behalf success info",
    "invitations.bulk.sent_on_behalf success notice",
    "invitations.bulk.sent_on_behalf failure notice",
    "invitations.bulk.sent_on_behalf denied warning",
)
def an_admin_invites_for_a_sponsor(hub: Hub) -> Iterator[Sign]:
    done = _on_behalf(hub, "admin", SPONSOR_ID)
    (job_id,) = hub.sql("invitations", "SELECT max(id) FROM jobs")[0]
    job = f"bulk_job:{job_id}"
    invitation = f"invitation:{done.raise_for_status().json()['data']['results'][0]['invitationId']}"
    yield sign("invitations.bulk.started_on_behalf success notice", "admin", job, request=done)
    yield sign("invitations.invitation.created_on_behalf success info", "admin", invitation, request=done)
    yield sign("invitations.invitation.sent_on_behalf success info", "admin", invitation, request=done)
    yield sign("invitations.bulk.sent_on_behalf success notice", "admin", job, request=done)
    refused = _on_behalf(hub, "admin_without_grants", SPONSOR_ID)
    yield sign("invitations.bulk.sent_on_behalf denied warning", "admin", _SPONSOR, request=refused)
    unknown = _on_behalf(hub, "admin", _NOBODY)
    yield sign("invitations.bulk.sent_on_behalf failure notice", "admin", f"sponsor:{_NOBODY}", request=unknown)


@SCENARIOS.leaves(
    "invitations.quiet_hours.changed success info",
    "invitations.bulk.accepted success info",
    "invitations.bulk.cancelled success info",
    "invitations.bulk.retried success info",
)
def a_sponsor_uploads_lists(hub: Hub) -> Iterator[Sign]:
    sponsor, now = hub.caller("sponsor"), datetime.now(_ISTANBUL)
    hours = {"from": f"{now - timedelta(hours=1):%H:%M}", "to": f"{now + timedelta(hours=2):%H:%M}"}
    quiet = sponsor.call("PUT", f"{_API}/quiet-hours", json=hours)
    yield sign("invitations.quiet_hours.changed success info", "user", _SPONSOR, request=quiet)
    # In quiet hours nothing goes out, so that there is something left to cancel.
    uploaded = _upload(hub, first=70_000)
    job_id = uploaded.raise_for_status().json()["data"]["jobId"]
    yield sign("invitations.bulk.accepted success info", "user", f"bulk_job:{job_id}", request=uploaded)
    cancelled = sponsor.call("POST", f"{_BULK}/{job_id}/cancel")
    yield sign("invitations.bulk.cancelled success info", "user", f"bulk_job:{job_id}", request=cancelled)
    loud = sponsor.call("PUT", f"{_API}/quiet-hours", json={"from": None, "to": None})
    yield sign("invitations.quiet_hours.changed success info", "user", _SPONSOR, request=loud)

    # Who has an open invitation is not invited a second time: a failure that may have passed later.
    _finished(hub, _upload(hub, first=71_000))
    again = _finished(hub, _upload(hub, first=71_000))
    retried = sponsor.call("POST", f"{_BULK}/{again}/retry")
    yield sign("invitations.bulk.retried success info", "user", f"bulk_job:{again}", request=retried)


@SCENARIOS.leaves(
    "invitations.invitation.accepted success info",
    "invitations.invitation.accepted failure info",
    "invitations.invitation.resent success info",
    "invitations.invitation.cancelled success info",
    "invitations.farmer.opted_out success info",
)
def farmers_answer(hub: Hub) -> Iterator[Sign]:
    first, token = _invited(hub, "05327200001")
    for outcome in ("success", "failure"):
        answer = hub.visitor().call("POST", f"/ref/{token}/accept", headers={"accept": "application/json"})
        yield sign(f"invitations.invitation.accepted {outcome} info", "anonymous", first, request=answer)
    second, _ = _invited(hub, "05327200002")
    where = f"{_API}/farmer/invitations/{second.partition(':')[2]}"
    for path, what in (("resend", "resent"), ("cancel", "cancelled")):
        answer = hub.caller("sponsor").call("POST", f"{where}/{path}")
        yield sign(f"invitations.invitation.{what} success info", "user", second, request=answer)
    third, token = _invited(hub, "05327200003")
    answer = hub.visitor().call("POST", f"/ref/{token}/opt-out", headers={"accept": "application/json"})
    yield sign("invitations.farmer.opted_out success info", "anonymous", third, request=answer)


def _on_behalf(hub: Hub, admin: str, sponsor_id: int) -> httpx.Response:
    farmer = {"phone": "05327100001", "farmerName": "Ayşe Demir", "codeCount": 1}
    return hub.caller(admin).call("POST", _ON_BEHALF, json={"sponsorId": sponsor_id, "recipients": [farmer]})


def _upload(hub: Hub, *, first: int) -> httpx.Response:
    file = {"excelFile": ("list.xlsx", make_list(valid_rows(3, first=first)), CONTENT_TYPE)}
    return hub.caller("sponsor").call("POST", _BULK, files=file)


def _finished(hub: Hub, uploaded: httpx.Response) -> int:
    job_id: int = uploaded.raise_for_status().json()["data"]["jobId"]

    def ended() -> bool:
        job: dict[str, Any] = hub.caller("sponsor").call("GET", f"{_BULK}/{job_id}").json()["data"]
        return bool(job["processedCount"] == job["totalRecipients"])

    hub.eventually(ended, what=f"the end of job {job_id}")
    return job_id


def _invited(hub: Hub, phone: str) -> tuple[str, str]:
    """Invite a farmer; gives the invitation as a target and the token of its link."""
    body = {"phone": phone, "farmerName": "Mehmet Kaya", "codeCount": 1}
    answer = hub.caller("sponsor").call("POST", f"{_API}/farmer/invite", json=body)
    result = answer.raise_for_status().json()["data"]["results"][0]
    return f"invitation:{result['invitationId']}", result["invitationToken"]
