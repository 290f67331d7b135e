"""Delivery reports: proven, in any order, as often as they come."""

from __future__ import annotations

import asyncio
import base64
import hmac
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson

from tests.invitations.conftest import SandboxProvider
from tests.invitations.stage import LIST, Stage, recipients

TWILIO_URL = "https://hub.example/callbacks/twilio"


def verimor_report(delivery_id: str, status: str, campaign: int = 20_001) -> list[dict[str, Any]]:
    """Give a report as Verimor pushes it."""
    return [
        {
            "type": "outbound",
            "campaign_id": campaign,
            "message_custom_id": delivery_id,
            "status": status,
            "gsm_error": "0",
        }
    ]


async def push_verimor(stage: Stage, body: Any, key: str | None = None) -> httpx.Response:
    assert stage.context.verimor is not None
    params = {"key": stage.context.verimor.report_key if key is None else key}
    return await stage.http.post("/callbacks/verimor", params=params, content=orjson.dumps(body))


def signature_of(query: str, form: dict[str, str], secret: str = "sandbox") -> str:
    """Sign a callback as Twilio documents it."""
    signed = f"{TWILIO_URL}?{query}" + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(secret.encode(), signed.encode(), "sha1")).decode()


async def push_twilio(
    stage: Stage, delivery_id: str, form: dict[str, str], *, secret: str = "sandbox"
) -> httpx.Response:
    query = f"d={delivery_id}"
    signature = signature_of(query, form, secret)
    headers = {"x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded"}
    return await stage.http.post(f"/callbacks/twilio?{query}", content=urlencode(form), headers=headers)


async def message_of(stage: Stage, **body: Any) -> tuple[int, str]:
    """Send one message; gives the invitation and the delivery."""
    await stage.stock("M", 1)
    result = (await stage.invite(recipients(1), **body)).json()["data"]["results"][0]
    (row,) = await stage.query("SELECT id FROM deliveries")
    return result["invitationId"], str(row["id"])


async def state(stage: Stage, invitation_id: int) -> str:
    shown = await stage.http.get(f"{LIST}/{invitation_id}", headers=stage.sponsor())
    return str(shown.json()["deliveryStatus"])


async def test_reports_move_a_message_forward_only(stage: Stage, provider: SandboxProvider) -> None:
    provider.turn(reports=False)
    invitation_id, delivery_id = await message_of(stage)
    seen = []
    for status in ("WAITING", "DELIVERED", "WAITING", "NOT_DELIVERED", "DELIVERED"):
        # Verimor's guide asks for 200: at any other code it sends the report three times more.
        assert (await push_verimor(stage, verimor_report(delivery_id, status))).status_code == 200
        seen.append(await state(stage, invitation_id))
    assert seen == ["sent", "delivered", "delivered", "delivered", "delivered"]
    assert len(await stage.events("invitations.invitation.sent.v1")) == 1


async def test_an_undelivered_message_is_told_and_keeps_its_codes_for_another_try(
    stage: Stage, provider: SandboxProvider
) -> None:
    provider.turn(reports=False)
    invitation_id, delivery_id = await message_of(stage)
    for _ in range(2):
        await push_verimor(stage, verimor_report(delivery_id, "NOT_DELIVERED"))
    assert await state(stage, invitation_id) == "undelivered"
    assert len(await stage.events("invitations.invitation.failed.v1")) == 1
    assert (await stage.left("M"))["reserved"] == 1


async def test_the_first_report_settles_a_message_whose_answer_was_lost(
    stage: Stage, provider: SandboxProvider
) -> None:
    provider.turn(accept_then_drop_rate=1.0, reports=False)
    invitation_id, delivery_id = await message_of(stage)
    assert await state(stage, invitation_id) == "unknown"
    assert await stage.events("invitations.invitation.sent.v1") == []
    await push_verimor(stage, verimor_report(delivery_id, "DELIVERED"))
    assert await state(stage, invitation_id) == "delivered"
    assert len(await stage.events("invitations.invitation.sent.v1")) == 1
    assert len(await stage.audit("invitations.invitation.sent_on_behalf")) == 1


async def test_twilio_reports_settle_by_the_delivery_in_their_address(stage: Stage, provider: SandboxProvider) -> None:
    provider.turn(accept_then_drop_rate=1.0, reports=False)
    invitation_id, delivery_id = await message_of(stage, channel="WhatsApp")
    form = {"MessageSid": "SM" + "a" * 32, "MessageStatus": "read", "AccountSid": "AC", "To": "whatsapp:+905420000000"}
    assert (await push_twilio(stage, delivery_id, form)).status_code == 204
    assert await state(stage, invitation_id) == "read"
    (row,) = await stage.query("SELECT provider_id FROM deliveries")
    assert row["provider_id"] == form["MessageSid"]


async def test_forged_reports_are_refused(stage: Stage, provider: SandboxProvider) -> None:
    provider.turn(reports=False)
    invitation_id, delivery_id = await message_of(stage)
    forged = await push_verimor(stage, verimor_report(delivery_id, "DELIVERED"), key="guess")
    assert (forged.status_code, forged.json()["code"]) == (403, "CALLBACK_KEY_INVALID")
    form = {"MessageSid": "SM" + "a" * 32, "MessageStatus": "delivered"}
    forged = await push_twilio(stage, delivery_id, form, secret="guess")
    assert (forged.status_code, forged.json()["code"]) == (403, "CALLBACK_SIGNATURE_INVALID")
    assert await state(stage, invitation_id) == "accepted"


async def test_a_replayed_report_tells_nothing_new_and_moves_no_other_message(
    stage: Stage, provider: SandboxProvider
) -> None:
    """Providers repeat reports themselves, so a copy is taken; it says nothing new, and only of its own message."""
    provider.turn(reports=False)
    await stage.stock("M", 2)
    await stage.invite(recipients(2), channel="WhatsApp")
    rows = await stage.query("SELECT id, invitation_id, provider_id FROM deliveries ORDER BY invitation_id")
    first, other = rows
    form = {"MessageSid": str(first["provider_id"]), "MessageStatus": "delivered", "AccountSid": "AC"}
    query = f"d={first['id']}"
    signature = signature_of(query, form)

    async def post(query: str, form: dict[str, str]) -> int:
        headers = {"x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded"}
        answer = await stage.http.post(f"/callbacks/twilio?{query}", content=urlencode(form), headers=headers)
        return answer.status_code

    assert await post(query, form) == 204
    assert await post(query, form | {"MessageStatus": "read"}) == 403, "another status under an old signature"
    assert await post(f"d={other['id']}", form) == 403, "another message under an old signature"
    assert await post(f"{query}&x=1", form) == 403
    before = len(await stage.query("SELECT 1 FROM outbox"))
    read = {"MessageSid": str(first["provider_id"]), "MessageStatus": "read", "AccountSid": "AC"}
    assert (await push_twilio(stage, str(first["id"]), read)).status_code == 204
    assert await post(query, form) == 204, "the copy comes after a later report"
    assert await state(stage, first["invitation_id"]) == "read"
    assert await state(stage, other["invitation_id"]) == "accepted"
    assert len(await stage.query("SELECT 1 FROM outbox")) == before


async def test_reports_of_the_same_messages_in_any_order_do_not_lock_each_other_out(
    stage: Stage, provider: SandboxProvider
) -> None:
    provider.turn(reports=False)
    await stage.stock("M", 40)
    await stage.invite(recipients(40))
    ids = [str(row["id"]) for row in await stage.query("SELECT id FROM deliveries")]
    reports = [report for delivery_id in ids for report in verimor_report(delivery_id, "DELIVERED")]
    answers = await asyncio.gather(*(push_verimor(stage, reports[:: 1 if number % 2 else -1]) for number in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    rows = await stage.query("SELECT DISTINCT state FROM deliveries")
    assert [row["state"] for row in rows] == ["delivered"]


async def test_an_unreadable_report_is_refused(stage: Stage) -> None:
    cases: list[Any] = [{"x": 1}, "x", [1], [[]]]
    for body in cases:
        answer = await push_verimor(stage, body)
        assert (answer.status_code, answer.json()["code"]) == (422, "VERIMOR_REPORT_UNREADABLE")


async def test_a_report_about_nothing_we_know_is_taken_and_forgotten(stage: Stage) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    assert (await push_verimor(stage, verimor_report(unknown, "DELIVERED"))).status_code == 200
