"""What makes referrals write an audit event: sign-ins at Microsoft, the token that they leave, syncs."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from local.environment import CLIENT_ID, TENANT_ID
from services.referrals.microsoft import Microsoft, SignedIn
from tests.system.matrix.hub import Hub
from tests.system.matrix.scenario import Scenarios, Sign, sign

SCENARIOS: Final = Scenarios()
_API: Final = "/api/referrals"
_CONNECTION: Final = "partner_center_connection:1"
_SCOPE: Final = "https://api.partner.microsoft.com/.default"
_ACCOUNT: Final = {"username": "guest@other.example", "tenant_id": "0a1b2c3d-0000-4000-8000-000000000000"}
_REFUSED: Final = {"endpoint": "token", "grant": "device_code", "error": "invalid_grant", "codes": [53003]}


@SCENARIOS.leaves(
    "partner_center.sign_in.begun success notice",
    "partner_center.sign_in.declined failure notice",
    "partner_center.sign_in.expired failure notice",
    "partner_center.sign_in.failed failure notice",
    "partner_center.sign_in.failed denied notice",
)
def sign_ins_at_microsoft_come_to_nothing(hub: Hub) -> Iterator[Sign]:
    asked, declined = _begin(hub)
    yield sign("partner_center.sign_in.begun success notice", "admin", declined, request=asked)
    _decide(hub, asked, "decline")
    _, expired = _begin(hub)
    hub.sql("referrals", f"UPDATE sign_ins SET expires_at = now() WHERE sign_in_id = '{expired.partition(':')[2]}'")  # noqa: S608  an id of our own
    yield sign("partner_center.sign_in.declined failure notice", "admin", declined)
    yield sign("partner_center.sign_in.expired failure notice", "admin", expired)
    for begun in (declined, expired):
        _ended(hub, begun)  # or the next poll of one of these meets the fault that is meant for another

    hub.turn(identity_faults=[_REFUSED])
    _, refused = _begin(hub)
    _ended(hub, refused)
    yield sign("partner_center.sign_in.failed failure notice", "admin", refused)
    hub.turn(account=_ACCOUNT)
    asked, foreign = _begin(hub)
    _decide(hub, asked, "approve")
    _ended(hub, foreign)
    yield sign("partner_center.sign_in.failed denied notice", "admin", foreign)
    hub.turn(account={})


@SCENARIOS.leaves(
    "partner_center.sign_in.succeeded success notice",
    "partner_center.token.renewed success info",
    "partner_center.sync.requested success info",
    "partner_center.sync.completed success info",
)
def referrals_are_synced(hub: Hub) -> Iterator[Sign]:
    hub.turn(access_token_expires_in=200)  # too short a life to begin a sync with, so that it is renewed
    asked, signed_in = _begin(hub)
    _decide(hub, asked, "approve")
    yield sign("partner_center.sign_in.succeeded success notice", "admin", signed_in)
    _ended(hub, signed_in)
    hub.turn(access_token_expires_in=3600)
    synced, task = _sync(hub)
    yield sign("partner_center.sync.requested success info", "admin", task, request=synced)
    yield sign("partner_center.token.renewed success info", "service", _CONNECTION, request=synced)
    yield sign("partner_center.sync.completed success info", "admin", task, request=synced)


@SCENARIOS.leaves("partner_center.sync.requested success info", "partner_center.sync.completed success info")
def others_than_admins_ask_for_syncs(hub: Hub) -> Iterator[Sign]:
    code, printed = hub.operate("referrals", "sync", "--wait")
    assert code == 0, printed
    by_operator = _newest_sync(hub)
    yield sign("partner_center.sync.requested success info", "operator", by_operator)
    hub.sql("referrals", "UPDATE partner_center_connections SET connected_at = connected_at - interval '1 day'")
    hub.sql("referrals", "UPDATE referral_syncs SET requested_at = requested_at - interval '1 day'")

    def by_service() -> str | None:
        newest = _newest_sync(hub)
        return newest if newest != by_operator else None

    newest = hub.eventually(by_service, what="the sync that is due")
    yield sign("partner_center.sync.completed success info", "service", newest)


@SCENARIOS.leaves(
    "partner_center.sync.failed failure warning",
    "partner_center.token.refused failure warning",
    "partner_center.sync.sign_in_required failure warning",
)
def microsoft_lets_nobody_in(hub: Hub) -> Iterator[Sign]:
    hub.turn(api_faults=[{"kind": "forbidden", "times": 1}])
    failed, task = _sync(hub)
    yield sign("partner_center.sync.failed failure warning", "admin", task, request=failed)
    hub.microsoft.post("/_sandbox/revoke").raise_for_status()
    refused, task = _sync(hub)
    yield sign("partner_center.token.refused failure warning", "service", _CONNECTION, request=refused)
    yield sign("partner_center.sync.sign_in_required failure warning", "admin", task, request=refused)


@SCENARIOS.leaves(
    "partner_center.cache.imported success notice",
    "partner_center.key.rotated success notice",
    "partner_center.connection.reset success notice",
)
def an_operator_tends_the_stored_sign_in(hub: Hub) -> Iterator[Sign]:
    old_file = hub.run_dir / "token_cache.json"
    old_file.write_text(asyncio.run(_token_cache(hub)))
    code, printed = hub.operate("referrals", "import-cache", str(old_file))
    old_file.unlink()
    assert code == 0, printed
    yield sign("partner_center.cache.imported success notice", "operator", _CONNECTION)
    keys = f"{base64.b64encode(secrets.token_bytes(32)).decode()},{hub.secret('token-cache-key')}"
    code, printed = hub.operate("referrals", "rotate-key", HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS=keys)
    assert code == 0, printed
    yield sign("partner_center.key.rotated success notice", "operator", _CONNECTION)
    # The services still run with the old key: what they can't open any more, an admin throws away.
    reset = hub.caller("admin").call("DELETE", f"{_API}/connection")
    yield sign("partner_center.connection.reset success notice", "admin", _CONNECTION, request=reset)


def _begin(hub: Hub) -> tuple[httpx.Response, str]:
    asked = hub.caller("admin").call("POST", f"{_API}/sign-in").raise_for_status()
    return asked, f"sign_in:{asked.json()['sign_in_id']}"


def _decide(hub: Hub, asked: httpx.Response, decision: str) -> None:
    code = asked.json()["user_code"]
    hub.microsoft.post("/devicelogin", data={"user_code": code, "decision": decision}).raise_for_status()


def _ended(hub: Hub, sign_in: str) -> None:
    where = f"{_API}/sign-in/{sign_in.partition(':')[2]}"
    hub.eventually(
        lambda: hub.caller("admin").call("GET", where).json()["status"] != "pending", what=f"the end of {sign_in}"
    )


def _sync(hub: Hub) -> tuple[httpx.Response, str]:
    """Ask for a sync and wait for its end."""
    asked = hub.caller("admin").call("POST", f"{_API}/sync").raise_for_status()
    assert asked.json()["enqueued"], "no other sync was open"
    task_id = asked.json()["task_id"]

    def ended() -> bool:
        task: dict[str, Any] = hub.caller("admin").call("GET", f"{_API}/sync/{task_id}").json()
        return task["status"] not in {"queued", "running"}

    hub.eventually(ended, what=f"the end of sync {task_id}")
    return asked, f"sync:{task_id}"


def _newest_sync(hub: Hub) -> str:
    found = hub.sql("referrals", "SELECT task_id FROM referral_syncs ORDER BY requested_at DESC LIMIT 1")
    return f"sync:{found[0][0]}"


async def _token_cache(hub: Hub) -> str:
    """Sign in as the older tool did, and give the plain file that it left."""
    sandbox = hub.stack["sandbox"]
    authority, trust = f"{sandbox['microsoft']}/{TENANT_ID}", Path(sandbox["microsoft_ca_file"])
    older_tool = Microsoft(authority=authority, client_id=CLIENT_ID, scope=_SCOPE, ca_file=trust)
    code = await older_tool.begin_sign_in()
    await asyncio.to_thread(
        hub.microsoft.post, "/devicelogin", data={"user_code": code.user_code, "decision": "approve"}
    )
    answer = await older_tool.poll_sign_in(code.flow)
    assert isinstance(answer, SignedIn)
    return answer.token_cache
