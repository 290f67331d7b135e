"""Single invitations: listed, shown, sent again, taken back, expired; and what the farmer does with the link."""

from __future__ import annotations

import asyncio
from typing import Any

from services.invitations.commands import sweeping
from services.invitations.settings import InvitationsSettings
from tests.invitations.conftest import SandboxProvider, sending
from tests.invitations.lists import farmers, xlsx
from tests.invitations.stage import INVITE, LIST, Stage, opened, phone, recipients
from tests.support.eventually import eventually
from tests.support.tokens import Issuer

PAGE = {"accept": "text/html"}


async def invited(stage: Stage, number: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """Invite so many farmers with two codes each; gives the results."""
    await stage.stock("M", 2 * number)
    answer = await stage.invite(recipients(number, code_count=2, **changes))
    results: list[dict[str, Any]] = answer.json()["data"]["results"]
    assert all(result["deliveryStatus"] == "Sent" for result in results)
    return results


async def show(stage: Stage, invitation_id: int) -> dict[str, Any]:
    answer = await stage.http.get(f"{LIST}/{invitation_id}", headers=stage.sponsor())
    shown: dict[str, Any] = answer.json()
    return shown


async def test_a_sponsor_invites_one_farmer(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("S", 3)
    body = {
        "phone": "05421396386",
        "farmerName": "Ahmet Yılmaz",
        "codeCount": 2,
        "packageTier": "S",
        "notes": "Bölge 1",
    }
    answer = await stage.http.post(INVITE, json=body, headers=stage.sponsor())
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["data"]["results"]
    assert (result["success"], result["deliveryStatus"], result["codeCount"]) == (True, "Sent", 2)
    assert provider.phones() == {"+905421396386": 1}
    assert await stage.audit("invitations.bulk.started_on_behalf") == []
    again = await stage.http.post(INVITE, json=body | {"codeCount": 1}, headers=stage.sponsor())
    assert again.json()["data"]["results"][0]["deliveryStatus"] == "Failed - Duplicate"


async def test_a_wrong_single_invitation_is_named_by_its_field(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 5)
    good = {"phone": phone(1), "farmerName": "Ahmet", "codeCount": 1}
    cases: list[Any] = [
        ({"phone": "0212 123 45 67"}, "phone"),
        ({"phone": "05421396386 / 05331396386"}, "phone"),
        ({"phone": None}, "phone"),
        ({"farmerName": None}, "farmerName"),
        ({"farmerName": " "}, "farmerName"),
        ({"farmerName": "Ah\0met"}, "farmerName"),
        ({"codeCount": 0}, "codeCount"),
        ({"codeCount": True}, "codeCount"),
        ({"sponsorId": 7}, "sponsorId"),
    ]
    for change, field in cases:
        answer = await stage.http.post(INVITE, json=good | change, headers=stage.sponsor())
        assert answer.status_code == 422, answer.text
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    refused = await stage.http.post(f"{INVITE}?onBehalfOfSponsorId=7", json=good, headers=stage.sponsor())
    assert (refused.status_code, refused.json()["code"]) == (400, "ON_BEHALF_OF_NOT_SUPPORTED")
    refused = await stage.http.post(INVITE, json=good, headers=stage.admin())
    assert (refused.status_code, refused.json()["code"]) == (403, "SPONSOR_ONLY")
    short = await stage.http.post(INVITE, json=good | {"codeCount": 9}, headers=stage.sponsor())
    assert (short.status_code, short.json()["message"]) == (400, "Yetersiz kod. Mevcut: 5, İstenen: 9")
    assert provider.messages() == []


async def test_a_sponsor_sees_its_own_invitations_page_by_page(stage: Stage) -> None:
    await stage.register(7, "Sponsor")
    ids = [result["invitationId"] for result in await invited(stage, 5)]
    seen: list[int] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await stage.http.get(LIST, params=query, headers=stage.sponsor())).json()
        seen += [item["invitationId"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(ids, reverse=True)
    assert (await stage.http.get(LIST, headers=stage.sponsor(7))).json() == {"items": [], "next_cursor": None}
    everything = (await stage.http.get(LIST, params={"sponsorId": 7}, headers=stage.admin())).json()
    assert everything["items"] == []
    assert len((await stage.http.get(LIST, params={"sponsorId": 6}, headers=stage.admin())).json()["items"]) == 5


async def test_the_list_is_filtered(stage: Stage) -> None:
    results = await invited(stage, 3)
    await stage.http.post(f"{LIST}/{results[0]['invitationId']}/cancel", headers=stage.sponsor())

    async def found(**query: Any) -> list[int]:
        answer = await stage.http.get(LIST, params=query, headers=stage.sponsor())
        return [item["invitationId"] for item in answer.json()["items"]]

    assert await found(status="Cancelled") == [results[0]["invitationId"]]
    assert await found(phone="0542 000 00 01") == [results[1]["invitationId"]]
    for query in ({"status": "x"}, {"phone": "12"}, {"cursor": "x"}, {"cursor": "WyJ4Il0"}, {"limit": "0"}):
        answer = await stage.http.get(LIST, params=query, headers=stage.sponsor())
        assert answer.status_code == 422, query


async def test_an_invitation_is_shown_with_every_attempt(stage: Stage, provider: SandboxProvider) -> None:
    await stage.register(7, "Sponsor")
    await stage.stock("M", 1)
    provider.turn(too_many_rate=1.0)
    result = (await stage.invite(recipients(1))).json()["data"]["results"][0]
    assert result["deliveryStatus"] == "Pending"
    provider.turn(too_many_rate=0.0)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE deliveries SET due_at = now(); UPDATE provider_accounts SET paused_until = NULL")
    async with sending(stage.context):
        await eventually(lambda: len(provider.messages()) == 1)

        async def is_sent() -> bool:
            return bool((await show(stage, result["invitationId"]))["deliveryStatus"] == "accepted")

        await eventually(is_sent)
    shown = await show(stage, result["invitationId"])
    assert (shown["status"], shown["phone"], shown["invitationLink"]) == (
        "Pending",
        "+905420000000",
        result["invitationLink"],
    )
    (delivery,) = shown["deliveries"]
    assert [attempt["outcome"] for attempt in delivery["attempts"]] == ["notsent", "accepted"]
    other = await stage.http.get(f"{LIST}/{result['invitationId']}", headers=stage.sponsor(7))
    assert (other.status_code, other.json()["code"]) == (404, "INVITATION_NOT_FOUND")


async def test_sending_again_is_a_new_message_with_the_same_codes_after_a_pause(
    stage: Stage, provider: SandboxProvider
) -> None:
    (result,) = await invited(stage)
    url = f"{LIST}/{result['invitationId']}/resend"
    answer = await stage.http.post(url, headers=stage.sponsor())
    assert (answer.status_code, answer.json()["code"]) == (429, "RESEND_TOO_SOON")
    assert 0 < int(answer.headers["retry-after"]) <= 600
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE delivery_attempts SET started_at = now() - interval '1 hour'")
    async with sending(stage.context):
        assert (await stage.http.post(url, headers=stage.sponsor())).status_code == 202
        await eventually(lambda: len(provider.messages()) == 2)
    first, second = provider.messages()
    assert first["text"] == second["text"]
    assert (await stage.left("M"))["reserved"] == 2
    assert [one["ordinal"] for one in (await show(stage, result["invitationId"]))["deliveries"]] == [1, 2]


async def test_the_pause_before_sending_again_begins_when_the_message_goes_out(stage: Stage) -> None:
    """A message that waited through the night, in quiet hours or for its provider, has just arrived in the morning."""
    (result,) = await invited(stage)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE deliveries SET created_at = now() - interval '9 hours'")
    answer = await stage.http.post(f"{LIST}/{result['invitationId']}/resend", headers=stage.sponsor())
    assert (answer.status_code, answer.json().get("code")) == (429, "RESEND_TOO_SOON")


async def test_sending_again_what_the_provider_refuses_as_a_duplicate_is_not_called_sent(
    stage: Stage, provider: SandboxProvider
) -> None:
    """Verimor takes the same words to the same phone once a day: the duplicate is the message before, not this one."""
    (result,) = await invited(stage)
    provider.turn(refuse_duplicates=True)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE delivery_attempts SET started_at = now() - interval '1 hour'")
    answer = await stage.http.post(f"{LIST}/{result['invitationId']}/resend", headers=stage.sponsor())
    assert answer.status_code == 202

    async def is_settled() -> bool:
        (_, second) = (await show(stage, result["invitationId"]))["deliveries"]
        return second["status"] not in {"queued", "claimed", "sending"}

    async with sending(stage.context):
        await eventually(is_settled)
    shown = await show(stage, result["invitationId"])
    (first, second) = shown["deliveries"]
    assert (first["status"], second["status"], second["errorCode"]) == ("accepted", "rejected", "DUPLICATE")
    assert shown["status"] == "Pending", "the farmer has the link of the first message"
    assert len(provider.messages()) == 1


async def test_nothing_is_sent_again_for_a_sponsor_who_was_disabled(stage: Stage, provider: SandboxProvider) -> None:
    (result,) = await invited(stage)
    await stage.register(6, "Sponsor", version=2, is_active=False, status="disabled")
    answer = await stage.http.post(f"{LIST}/{result['invitationId']}/resend", headers=stage.admin())
    assert (answer.status_code, answer.json()["message"]) == (409, "Sponsor hesabı aktif değil")
    assert len(provider.messages()) == 1


async def test_nothing_is_sent_again_while_the_last_message_is_open(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 1)
    provider.turn(accept_then_drop_rate=1.0)
    result = (await stage.invite(recipients(1))).json()["data"]["results"][0]
    answer = await stage.http.post(f"{LIST}/{result['invitationId']}/resend", headers=stage.sponsor())
    assert (answer.status_code, answer.json()["code"]) == (409, "MESSAGE_UNSETTLED")


async def test_taking_an_invitation_back_frees_its_codes(stage: Stage) -> None:
    (result,) = await invited(stage)
    url = f"{LIST}/{result['invitationId']}/cancel"
    assert (await stage.http.post(url, headers=stage.sponsor())).status_code == 200
    assert await stage.left("M") == {"tier": "M", "available": 2, "reserved": 0, "spent": 0, "expired": 0}
    again = await stage.http.post(url, headers=stage.sponsor())
    assert (again.status_code, again.json()["code"]) == (409, "INVITATION_NOT_PENDING")
    link = await stage.http.get(f"/ref/{result['invitationToken']}")
    assert (link.status_code, link.json()["code"]) == (410, "INVITATION_CANCELLED")
    assert (await stage.invite(recipients(1))).json()["data"]["successCount"] == 1


async def test_an_invitation_ends_when_its_time_is_over(stage: Stage) -> None:
    (result,) = await invited(stage)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE invitations SET expires_at = now()")
    early = await stage.http.post(f"/ref/{result['invitationToken']}/accept")
    assert (early.status_code, early.json()["code"]) == (410, "INVITATION_EXPIRED")
    for _ in range(2):
        await sweeping.expire_invitations(stage.context.database)
    assert (await stage.left("M"))["available"] == 2
    assert (await show(stage, result["invitationId"]))["status"] == "Expired"


async def test_accepting_spends_the_codes_once(stage: Stage) -> None:
    (result,) = await invited(stage)
    url = f"/ref/{result['invitationToken']}"
    offer = (await stage.http.get(url)).json()["data"]
    assert (offer["sponsorName"], offer["packageTier"], offer["codeCount"]) == ("Deniz Örnek", "M", 2)
    answers = await asyncio.gather(*(stage.http.post(f"{url}/accept") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    accepted = next(answer for answer in answers if answer.status_code == 200)
    assert len(accepted.json()["data"]["codes"]) == 2
    assert await stage.left("M") == {"tier": "M", "available": 0, "reserved": 0, "spent": 2, "expired": 0}
    (event,) = await stage.events("invitations.invitation.accepted.v1")
    assert event == {"invitation_id": result["invitationId"], "sponsor_id": 6}
    late = await stage.http.get(url)
    assert (late.status_code, late.json()["code"]) == (409, "INVITATION_ALREADY_ACCEPTED")


async def test_who_tries_many_links_has_to_wait(settings: InvitationsSettings, issuer: Issuer) -> None:
    async with opened(settings.model_copy(update={"accept_attempts_per_minute": 3}), issuer) as stage:
        answers = [await stage.http.post(f"/ref/{number:032x}/accept") for number in range(4)]
        assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
        assert answers[-1].json()["code"] == "LINK_TRIED_TOO_OFTEN"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 20
        other = await stage.http.get(f"/ref/{9:032x}", headers={"x-forwarded-for": "198.51.100.9"})
        assert other.status_code == 404, "another address has its own attempts"


async def test_the_token_is_nowhere_in_the_database_in_clear(stage: Stage) -> None:
    (result,) = await invited(stage)
    token = result["invitationToken"]
    tables = await stage.query(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'invitations'"
    )
    for table in tables:
        found = await stage.query(
            f'SELECT 1 FROM "{table["name"]}" AS t WHERE strpos(t::text, $1) > 0 OR strpos(t::text, $2) > 0',  # noqa: S608
            token,
            token.encode().hex(),
        )
        assert found == [], table["name"]


async def test_an_unknown_link_is_told_so(stage: Stage) -> None:
    cases: list[Any] = ["0" * 32, "x", "0" * 33, "G" * 32]
    for token in cases:
        for answer in (
            await stage.http.get(f"/ref/{token}"),
            await stage.http.post(f"/ref/{token}/accept"),
            await stage.http.post(f"/ref/{token}/opt-out"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "INVITATION_LINK_UNKNOWN")


async def test_a_browser_gets_a_page_that_works_without_scripts(stage: Stage) -> None:
    (result,) = await invited(stage)
    url = f"/ref/{result['invitationToken']}"
    page = await stage.http.get(url, headers=PAGE)
    assert page.headers["content-type"].startswith("text/html")
    assert f'action="{url}/accept"' in page.text
    assert "Deniz Örnek size 2 adet M paketi hediye etti" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "script" not in page.text
    accepted = await stage.http.post(f"{url}/accept", headers=PAGE)
    assert accepted.text.count("<code>M-") == 2
    again = await stage.http.post(f"{url}/accept", headers=PAGE)
    assert (again.status_code, "daha önce kabul edilmiş" in again.text) == (409, True)


async def test_looking_at_a_link_changes_nothing(stage: Stage) -> None:
    """Phones, chat programs and scanners of mail open links by themselves."""
    (result,) = await invited(stage)
    url = f"/ref/{result['invitationToken']}"
    for path in (url, f"{url}/accept", f"{url}/opt-out"):
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = await stage.http.request(method, path, headers=PAGE)
            assert answer.status_code in {200, 405}, (method, path)
    assert (await show(stage, result["invitationId"]))["status"] == "Pending"
    assert await stage.left("M") == {"tier": "M", "available": 0, "reserved": 2, "spent": 0, "expired": 0}
    assert await stage.query("SELECT 1 FROM opt_outs") == []
    offer = await stage.http.get(url)
    assert (offer.headers["cache-control"], offer.headers["referrer-policy"]) == ("no-store", "no-referrer")


async def test_the_last_day_is_told_by_the_clock_of_istanbul(stage: Stage) -> None:
    (result,) = await invited(stage)
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE invitations SET expires_at = '2099-12-30T22:30:00Z'")
    page = await stage.http.get(f"/ref/{result['invitationToken']}", headers=PAGE)
    assert "Son gün: 31.12.2099, saat 01:30" in page.text


async def test_an_admin_without_a_grant_may_look_but_not_act(stage: Stage) -> None:
    (result,) = await invited(stage)
    url = f"{LIST}/{result['invitationId']}"
    other_admin = stage.admin(on_behalf_of=[7])
    assert (await stage.http.get(url, headers=other_admin)).status_code == 200
    for action in ("resend", "cancel"):
        answer = await stage.http.post(f"{url}/{action}", headers=other_admin)
        assert (answer.status_code, answer.json()["code"]) == (403, "OBO_NOT_PERMITTED")
    assert (await show(stage, result["invitationId"]))["status"] == "Pending"
    assert (await stage.http.post(f"{url}/cancel", headers=stage.admin())).status_code == 200
    (record,) = await stage.audit("invitations.invitation.cancelled")
    assert (record["actor"]["id"], record["on_behalf_of"]) == (166, 6)


async def test_the_ground_for_writing_is_kept_with_the_invitation(
    settings: InvitationsSettings, issuer: Issuer
) -> None:
    notices = settings.model_copy(update={"verimor_commercial": False})
    async with opened(notices, issuer) as stage:
        await stage.register(6, "Sponsor")
        await stage.stock("M", 3)
        ground = "Kooperatif üyelik formu 2026/17"
        await stage.invite(recipients(1, first=1), consentEvidence=ground)
        single = {"phone": phone(2), "farmerName": "Ayşe", "codeCount": 1, "consentEvidence": ground}
        await stage.http.post(INVITE, json=single, headers=stage.sponsor())
        job_id = (await stage.upload(xlsx(farmers(1, first=3)), fields={"consentEvidence": ground})).json()["data"][
            "jobId"
        ]
        await stage.place_all(job_id)
        ids = [row["id"] for row in await stage.query("SELECT id FROM invitations ORDER BY id")]
        for invitation_id in ids:
            shown = await show(stage, invitation_id)
            assert (shown["consentEvidence"], shown["isCommercial"]) == (ground, False)
    assert len(ids) == 3


async def test_names_cannot_inject_markup(stage: Stage) -> None:
    await stage.stock("M", 1)
    body = [{"phone": phone(1), "farmerName": "<script>alert(1)</script>", "codeCount": 1}]
    token = (await stage.invite(body)).json()["data"]["results"][0]["invitationToken"]
    page = await stage.http.get(f"/ref/{token}", headers=PAGE)
    assert "&lt;script&gt;" in page.text
    assert "<script>" not in page.text


async def test_a_farmer_who_refuses_gets_no_more_messages_from_anybody(stage: Stage, provider: SandboxProvider) -> None:
    await stage.register(7, "Sponsor")
    (result,) = await invited(stage)
    url = f"/ref/{result['invitationToken']}/opt-out"
    assert "Onaylıyorum" in (await stage.http.get(url, headers=PAGE)).text
    assert await stage.query("SELECT 1 FROM opt_outs") == [], "a preview of the link must not opt out"
    assert (await stage.http.post(url)).status_code == 200
    assert (await stage.http.post(url)).status_code == 200
    assert (await show(stage, result["invitationId"]))["statusReason"] == "OPTED_OUT"
    assert (await stage.left("M"))["available"] == 2
    await stage.stock("M", 1, sponsor_id=7)
    body = {"phone": phone(0), "farmerName": "x", "codeCount": 1}
    answer = await stage.http.post(INVITE, json=body, headers=stage.sponsor(7))
    assert answer.json()["data"]["results"][0]["deliveryStatus"] == "Failed - Opted Out"
    assert len(provider.messages()) == 1
    assert provider.messages()[0]["text"].endswith(f"Ret: https://ziraai.example{url}")
