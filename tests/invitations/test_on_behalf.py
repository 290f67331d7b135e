"""The admin's on-behalf-of door, row by row of the specification's tables."""

from __future__ import annotations

from typing import Any

import pytest

from services.invitations.settings import InvitationsSettings
from tests.invitations.conftest import SandboxProvider, sending
from tests.invitations.stage import OBO, OBO_EXCEL, Stage, opened, phone, recipients
from tests.support.eventually import eventually
from tests.support.tokens import Issuer

GUIDE = [
    {
        "phone": "05421396386",
        "farmerName": "Ahmet Yılmaz",
        "email": "ahmet@example.com",
        "codeCount": 5,
        "packageTier": "M",
        "notes": "Bölge 1 - Antalya",
    },
    {"phone": "+90 533 987 65 44", "farmerName": "Ayşe Demir", "codeCount": 3, "packageTier": "M"},
    {"phone": "05339876543", "farmerName": "Mehmet Kaya", "codeCount": 100, "packageTier": "M"},
]


async def test_the_example_of_the_guide_to_the_letter(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 8)
    answer = await stage.invite(GUIDE, channel="SMS", customMessage="Merhaba {farmerName}, {sponsorName}: {deepLink}")

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["success"] is True
    assert body["message"] == "📱 2 davet başarıyla gönderildi via SMS"
    data = body["data"]
    assert (data["totalRequested"], data["successCount"], data["failedCount"]) == (3, 2, 1)
    first, second, third = data["results"]
    assert first == {
        "phone": "05421396386",
        "farmerName": "Ahmet Yılmaz",
        "codeCount": 5,
        "packageTier": "M",
        "success": True,
        "invitationId": first["invitationId"],
        "invitationToken": first["invitationToken"],
        "invitationLink": f"https://ziraai.example/ref/{first['invitationToken']}",
        "deliveryStatus": "Sent",
    }
    assert len(first["invitationToken"]) == 32
    assert int(first["invitationToken"], 16) >= 0
    assert second["phone"] == "+90 533 987 65 44"
    assert third == {
        "phone": "05339876543",
        "farmerName": "Mehmet Kaya",
        "codeCount": 100,
        "packageTier": "M",
        "success": False,
        "errorMessage": "Yetersiz kod (M tier). Mevcut: 0, İstenen: 100",
        "deliveryStatus": "Failed - Insufficient Codes",
    }
    assert provider.phones() == {"+905421396386": 1, "+905339876544": 1}
    texts = {message["phone"]: message["text"] for message in provider.messages()}
    assert texts["+905421396386"].startswith(f"Merhaba Ahmet Yılmaz, Deniz Örnek: {first['invitationLink']}")
    assert await stage.left("M") == {"tier": "M", "available": 0, "reserved": 8, "spent": 0, "expired": 0}


async def test_every_step_of_a_call_leaves_evidence(stage: Stage) -> None:
    await stage.stock("M", 8)
    agent = {"user-agent": "curl/8", "x-forwarded-for": "198.51.100.7", "x-request-id": "call-1"}
    answer = await stage.http.post(OBO, json={"sponsorId": 6, "recipients": GUIDE}, headers=stage.admin() | agent)
    first, second, _ = answer.json()["data"]["results"]

    (started,) = await stage.audit("invitations.bulk.started_on_behalf")
    assert (started["details"]["count"], started["details"]["channel"]) == (3, "SMS")
    created = await stage.audit("invitations.invitation.created_on_behalf")
    assert [record["details"]["invitation_id"] for record in created] == [first["invitationId"], second["invitationId"]]
    assert created[0]["personal"]["phone"] == "+905421396386"
    sent = await stage.audit("invitations.invitation.sent_on_behalf")
    assert {record["details"]["invitation_id"] for record in sent} == {first["invitationId"], second["invitationId"]}
    (ended,) = await stage.audit("invitations.bulk.sent_on_behalf")
    assert (ended["details"]["success_count"], ended["details"]["failed_count"]) == (2, 1)
    assert [result["status"] for result in ended["details"]["results"]] == [
        "Sent",
        "Sent",
        "Failed - Insufficient Codes",
    ]
    for record in (started, *created, *sent, ended):
        assert record["actor"] == {"kind": "admin", "id": 166, "roles": ["Admin"]}
        assert record["on_behalf_of"] == 6
        assert record["request_id"] == "call-1"
    assert ended["personal"] == {"ip": "198.51.100.7", "user_agent": "curl/8"}
    assert ended["request_path"] == OBO
    assert "05421396386" not in str(ended["details"])


async def test_events_tell_of_each_invitation_once(stage: Stage) -> None:
    await stage.stock("M", 8)
    results = (await stage.invite(GUIDE)).json()["data"]["results"]
    ids = [result["invitationId"] for result in results[:2]]
    created = await stage.events("invitations.invitation.created.v1")
    assert [(event["invitation_id"], event["package_tier"], event["code_count"]) for event in created] == [
        (ids[0], "M", 5),
        (ids[1], "M", 3),
    ]
    sent = await stage.events("invitations.invitation.sent.v1")
    assert {(event["invitation_id"], event["channel"], event["provider"]) for event in sent} == {
        (number, "SMS", "verimor") for number in ids
    }


async def test_whatsapp_goes_out_by_the_approved_template(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 1)
    answer = await stage.invite(recipients(1), channel="WhatsApp")
    assert answer.json()["message"] == "📱 1 davet başarıyla gönderildi via WhatsApp"
    (message,) = provider.messages()
    assert message["provider"] == "twilio"
    assert "warnings" not in answer.json()


async def test_who_writes_a_message_for_whatsapp_is_told_that_another_goes_out(
    stage: Stage, provider: SandboxProvider
) -> None:
    await stage.stock("M", 2)
    answer = await stage.invite(recipients(1), channel="WhatsApp", customMessage="Merhaba {farmerName}!", key="call-1")
    assert answer.json()["message"] == "📱 1 davet başarıyla gönderildi via WhatsApp"
    (warning,) = answer.json()["warnings"]
    assert "customMessage kullanılmadı" in warning
    again = await stage.invite(recipients(1), channel="WhatsApp", customMessage="Merhaba {farmerName}!", key="call-1")
    assert again.json() == answer.json()
    assert "Merhaba" not in provider.messages()[0]["text"]
    by_sms = await stage.invite(recipients(1, first=1), customMessage="Merhaba {farmerName}!")
    assert "warnings" not in by_sms.json()


async def test_nobody_gets_in_without_a_token(stage: Stage) -> None:
    cases: list[Any] = [({}, 401, "Unauthorized"), ({"authorization": "Bearer x.y.z"}, 401, "Unauthorized")]
    for headers, status, message in cases:
        answer = await stage.http.post(OBO, json={"sponsorId": 6, "recipients": GUIDE}, headers=headers)
        assert (answer.status_code, answer.json()["message"]) == (status, message)


async def test_only_admins_get_in(stage: Stage) -> None:
    answer = await stage.http.post(OBO, json={"sponsorId": 6, "recipients": GUIDE}, headers=stage.sponsor())
    assert (answer.status_code, answer.json()["message"]) == (403, "Admin yetkisi gereklidir")


async def test_only_admins_with_a_grant_for_the_sponsor_get_in(stage: Stage) -> None:
    await stage.stock("M", 8)
    body = {"sponsorId": 6, "recipients": GUIDE}
    answer = await stage.http.post(OBO, json=body, headers=stage.admin(on_behalf_of=[7]))
    assert (answer.status_code, answer.json()["code"]) == (403, "OBO_NOT_PERMITTED")
    (record,) = await stage.audit("invitations.bulk.sent_on_behalf")
    assert (record["outcome"], record["reason"], record["on_behalf_of"]) == ("denied", "OBO_NOT_PERMITTED", 6)
    answer = await stage.http.post(OBO, json=body, headers=stage.admin(on_behalf_of="all"))
    assert answer.status_code == 200


async def test_a_call_that_cannot_be_carried_out_changes_nothing(stage: Stage, provider: SandboxProvider) -> None:
    cases: list[Any] = [
        ({"recipients": []}, 400, "Hiç alıcı belirtilmedi"),
        ({"recipients": recipients(1, tier="Z")}, 400, "Geçersiz tier: Z"),
        ({"recipients": recipients(1, code_count=9)}, 400, "Yetersiz kod. Mevcut: 3, İstenen: 9"),
        ({"recipients": recipients(2, code_count=9)}, 400, "Yetersiz kod. Mevcut: 3, İstenen: 18"),
        ({"sponsorId": 404}, 404, "Belirtilen sponsor bulunamadı"),
        ({"sponsorId": 166}, 400, "Belirtilen kullanıcı sponsor değil"),
        ({"sponsorId": 8}, 409, "Sponsor hesabı aktif değil"),
    ]
    await stage.register(8, "Sponsor", is_active=False, status="disabled")
    await stage.stock("M", 3)
    for body, status, message in cases:
        call = {"sponsorId": 6, "recipients": recipients(1)} | body
        answer = await stage.http.post(OBO, json=call, headers=stage.admin(on_behalf_of="all"))
        assert (answer.status_code, answer.json()["message"]) == (status, message)
        assert answer.json()["success"] is False
        assert provider.messages() == []
        assert (await stage.left("M"))["available"] == 3
        assert await stage.query("SELECT 1 FROM jobs") == []
    evidence = await stage.audit("invitations.bulk.sent_on_behalf")
    assert [(record["outcome"], record["reason"], record["details"]["count"]) for record in evidence] == [
        ("failure", "NO_RECIPIENTS", 0),
        ("failure", "TIER_INVALID", 1),
        ("failure", "CODES_INSUFFICIENT", 1),
        ("failure", "CODES_INSUFFICIENT", 2),
        ("failure", "SPONSOR_NOT_FOUND", 1),
        ("failure", "NOT_A_SPONSOR", 1),
        ("failure", "SPONSOR_DISABLED", 1),
    ]


async def test_a_malformed_recipient_is_named_by_its_field(stage: Stage) -> None:
    cases: list[Any] = [
        ({"codeCount": 0}, "recipients.0.codeCount"),
        ({"codeCount": 101}, "recipients.0.codeCount"),
        ({"codeCount": "5"}, "recipients.0.codeCount"),
        ({"codeCount": 1.5}, "recipients.0.codeCount"),
        ({"codeCount": 5.0}, "recipients.0.codeCount"),
        ({"codeCount": True}, "recipients.0.codeCount"),
        ({"codeCount": None}, "recipients.0.codeCount"),
        ({"phone": None}, "recipients.0.phone"),
        ({"phone": 5421396386}, "recipients.0.phone"),
        ({"phone": "05421396386\0"}, "recipients.0.phone"),
        ({"notes": "Bölge\0"}, "recipients.0.notes"),
        ({"email": "ahmet"}, "recipients.0.email"),
        ({"farmerName": "x" * 201}, "recipients.0.farmerName"),
        ({"tier": "M"}, "recipients.0.tier"),
    ]
    for change, field in cases:
        answer = await stage.invite([recipients(1)[0] | change])
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_malformed_call_is_named_by_its_field(stage: Stage) -> None:
    cases: list[Any] = [
        ({"sponsorId": "6"}, "sponsorId"),
        ({"sponsorId": None}, "sponsorId"),
        ({"channel": "Pigeon"}, "channel"),
        ({"customMessage": "Merhaba {isim}"}, "customMessage"),
        ({"recipients": recipients(1_001)}, "recipients"),
        ({"onBehalfOf": 6}, "onBehalfOf"),
        ({"customMessage": "a\0b"}, "customMessage"),
    ]
    for change, field in cases:
        answer = await stage.http.post(
            OBO, json={"sponsorId": 6, "recipients": recipients(1)} | change, headers=stage.admin()
        )
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_file_at_this_door_is_told_how_it_is_used(stage: Stage) -> None:
    answer = await stage.upload(b"x", path=OBO, headers=stage.admin())
    assert answer.status_code == 415
    assert "application/json" in answer.json()["message"]
    assert "bulk/excel?onBehalfOfSponsorId=" in answer.json()["message"]


async def test_a_sponsor_named_in_the_address_is_refused(stage: Stage, provider: SandboxProvider) -> None:
    """The body says sponsor 6 and the address sponsor 7: who sends both means one of them."""
    await stage.stock("M", 1)
    call = {"sponsorId": 6, "recipients": recipients(1)}
    answer = await stage.http.post(f"{OBO}?onBehalfOfSponsorId=7", json=call, headers=stage.admin())
    assert (answer.status_code, answer.json()["code"]) == (400, "ON_BEHALF_OF_NOT_SUPPORTED")
    assert provider.messages() == []


async def test_json_at_the_admins_excel_door_is_told_how_it_is_used(stage: Stage) -> None:
    answer = await stage.http.post(f"{OBO_EXCEL}?onBehalfOfSponsorId=6", json={}, headers=stage.admin())
    assert answer.status_code == 415
    assert f"POST {OBO} " in answer.json()["message"]


@pytest.mark.parametrize(
    "text",
    ["0850 123 45 67", "0212 123 45 67", "0542abc4567", "05421396386, 05331396386", "", "+1 500 555 0006"],
)
async def test_what_is_no_mobile_number_fails_that_recipient_only(
    stage: Stage, provider: SandboxProvider, text: str
) -> None:
    await stage.stock("M", 2)
    wrong = recipients(1)[0] | {"phone": text}
    data = (await stage.invite([wrong, *recipients(1, first=1)])).json()["data"]
    assert [(result["phone"], result["deliveryStatus"]) for result in data["results"]] == [
        (text, "Failed - Invalid Phone"),
        (phone(1), "Sent"),
    ]
    assert data["results"][0]["errorMessage"]
    assert (await stage.left("M"))["available"] == 1
    assert len(provider.messages()) == 1


async def test_each_recipient_has_a_result_in_the_order_of_the_call(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 4)
    provider.turn(rejected_phones=["+905420000003"])
    await stage.invite(recipients(1, first=9))
    async with stage.context.database.transaction() as conn:
        await conn.execute("INSERT INTO opt_outs VALUES (sha256('+905420000004'))")
    called = [
        recipients(1, first=1)[0],
        {"phone": "0850 123 45 67", "codeCount": 1},
        {"phone": "+90 542 000 00 01", "farmerName": "again", "codeCount": 1, "packageTier": "M"},
        recipients(1, first=9)[0],
        recipients(1, first=4)[0],
        recipients(1, first=3)[0],
        recipients(1, first=5, code_count=50)[0],
        recipients(1, first=6)[0],
    ]
    data = (await stage.invite(called)).json()["data"]
    assert [result["phone"] for result in data["results"]] == [recipient["phone"] for recipient in called]
    assert [result["deliveryStatus"] for result in data["results"]] == [
        "Sent",
        "Failed - Invalid Phone",
        "Failed - Duplicate",
        "Failed - Duplicate",
        "Failed - Opted Out",
        "Failed - Delivery",
        "Failed - Insufficient Codes",
        "Sent",
    ]
    assert (data["successCount"], data["failedCount"]) == (2, 6)
    assert all(result.get("errorMessage") for result in data["results"] if not result["success"])
    # The code of the message that the provider refused is free again.
    assert await stage.left("M") == {"tier": "M", "available": 1, "reserved": 3, "spent": 0, "expired": 0}


async def test_many_recipients_share_requests_and_a_wrong_number_costs_only_itself(
    stage: Stage, provider: SandboxProvider
) -> None:
    await stage.stock("M", 60)
    provider.turn(rejected_phones=["+905420000030"])
    data = (await stage.invite(recipients(60))).json()["data"]
    assert [result["deliveryStatus"] for result in data["results"]] == ["Sent"] * 30 + ["Failed - Delivery"] + [
        "Sent"
    ] * 29
    assert len(provider.phones()) == 59
    assert set(provider.phones().values()) == {1}
    (row,) = await stage.query("SELECT count(*) AS n FROM delivery_attempts WHERE outcome = 'notsent'")
    assert row["n"] == 60, "the first request held all of them"


async def test_a_slow_provider_makes_results_pending_and_the_background_settles_them(
    settings: InvitationsSettings, issuer: Issuer, provider: SandboxProvider
) -> None:
    async with opened(settings.model_copy(update={"bulk_deadline_seconds": 0.2}), issuer) as stage:
        await stage.register(6, "Sponsor")
        await stage.stock("M", 3)
        provider.turn(latency_seconds=1.0)
        data = (await stage.invite(recipients(3))).json()["data"]
        assert [result["deliveryStatus"] for result in data["results"]] == ["Pending"] * 3
        assert data["successCount"] == 3

        async def sent() -> bool:
            return await stage.outcomes(await stage.last_job()) == {"sent": 3}

        await eventually(sent)
    assert set(provider.phones().values()) == {1}


async def test_a_lost_answer_is_pending_and_settled_by_asking_the_provider(
    stage: Stage, provider: SandboxProvider
) -> None:
    await stage.stock("M", 2)
    provider.turn(accept_then_drop_rate=1.0)
    data = (await stage.invite(recipients(2))).json()["data"]
    assert [result["deliveryStatus"] for result in data["results"]] == ["Pending"] * 2
    provider.turn(accept_then_drop_rate=0.0)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE deliveries SET due_at = now()")
    async with sending(stage.context):

        async def sent() -> bool:
            return await stage.outcomes(await stage.last_job()) == {"sent": 2}

        await eventually(sent)
    assert set(provider.phones().values()) == {1}


async def test_a_farmer_may_be_invited_for_several_tiers_of_stock(stage: Stage) -> None:
    await stage.stock("S", 2)
    await stage.stock("L", 5)
    called = [
        {"phone": phone(1), "codeCount": 3},
        {"phone": phone(2), "codeCount": 2},
        {"phone": phone(3), "codeCount": 9},
    ]
    results = (await stage.invite(called)).json()["data"]["results"]
    assert [result["packageTier"] for result in results] == ["L", "S", None]
    assert results[2]["errorMessage"] == "Yetersiz kod. Mevcut: 2, İstenen: 9"
