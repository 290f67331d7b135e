"""Step e: Partner Center is signed in to with a device code, and its referrals arrive."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from local.tour.guide import OK, Guide

REFERRALS: Final = 250
PAGES: Final = 3
COUNT: Final = "SELECT COUNT(*) FROM partner_center_referrals"
STATE: Final = "SELECT md5(string_agg(raw::text || updated_at, '' ORDER BY referral_id)) FROM partner_center_referrals"
RUNBOOK_ANSWER: Final = {
    "success": True,
    "message": "Referral sync task enqueued. Check logs for results.",
    "enqueued": True,
    "success_count": 0,
    "failure_count": 0,
    "skipped_count": 0,
    "errors": [],
}


def sync_referrals(guide: Guide) -> None:
    """Sign in with a device code, fetch 250 referrals over three pages, and sync again without any change."""
    _sign_in(guide)
    first = _sync(guide, "sync")
    counts = {name: first[name] for name in ("fetched", "created", "pages", "rejected")}
    guide.check(
        "what the first sync did", counts, {"fetched": REFERRALS, "created": REFERRALS, "pages": PAGES, "rejected": 0}
    )
    line = f"partner_center_referrals_fetched count={REFERRALS}"
    guide.wait_for(line, lambda: any(line in text for text in guide.log_lines("referrals-worker")))
    guide.teller.saw(f"in the referrals worker's log: {line}")
    guide.check(f"psql: {COUNT}", guide.sql("referrals", COUNT), REFERRALS)
    before = guide.sql("referrals", STATE)

    second = _sync(guide, "second sync")
    counts = {name: second[name] for name in ("created", "updated", "rejected")}
    guide.check("what the second sync changed", counts, {"created": 0, "updated": 0, "rejected": 0})
    guide.check(f"psql: {COUNT}", guide.sql("referrals", COUNT), REFERRALS)
    after = guide.sql("referrals", STATE)
    guide.check_that("every stored referral is as it was", holds=before == after)


def _sign_in(guide: Guide) -> None:
    admin = guide.caller("admin")
    begun = guide.call(admin, "POST", "/api/referrals/sign-in")
    guide.check("device code asked for", begun.status_code, 201)
    guide.remember("partner center sign-in", begun)
    code, address = begun.json()["user_code"], begun.json()["verification_uri"]
    guide.teller.saw(f"a person opens {address} and enters {code}")
    with guide.microsoft() as browser:  # which may know Microsoft by another name than the services do
        page = browser.post(urlsplit(address).path, data={"user_code": code, "decision": "approve"})
    guide.check_that("Microsoft took the code", holds="You have signed in" in page.text, instead=page.text)

    where = f"/api/referrals/sign-in/{begun.json()['sign_in_id']}"

    def finished() -> dict[str, Any] | None:
        state: dict[str, Any] = guide.call(admin, "GET", where, quietly=True).json()
        return state if state["status"] != "pending" else None

    with guide.teller.progress("waiting for Microsoft's tokens"):
        state = guide.wait_for("the end of the sign-in", finished)
    guide.check("the sign-in", state["status"], "succeeded")
    connection = guide.call(admin, "GET", "/api/referrals/connection").json()
    guide.check("the connection", connection["status"], "healthy")


def _sync(guide: Guide, name: str) -> dict[str, Any]:
    admin = guide.caller("admin")
    answer = guide.call(admin, "POST", "/api/referrals/sync")
    guide.remember(name, answer)
    guide.check("status", answer.status_code, OK)
    task_id = answer.json()["task_id"]
    guide.check("the runbook's answer", {k: v for k, v in answer.json().items() if k != "task_id"}, RUNBOOK_ANSWER)

    def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = guide.call(admin, "GET", f"/api/referrals/sync/{task_id}", quietly=True).json()
        return task if task["status"] not in {"queued", "running"} else None

    with guide.teller.progress(f"GET /api/referrals/sync/{task_id}"):
        task = guide.wait_for("the end of the sync", ended)
    guide.check("the sync", task["status"], "succeeded")
    return task
