"""The sponsor's Excel door and the admin's, and the jobs that they start."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import httpx
import openpyxl
import pytest
import xlsxwriter

from services.invitations.settings import InvitationsSettings
from tests.invitations import spreadsheets as build
from tests.invitations.conftest import SandboxProvider, sending
from tests.invitations.lists import HEADER, farmers, finished, xlsx
from tests.invitations.stage import BULK, LIST, OBO_EXCEL, Stage, opened, phone
from tests.support.tokens import Issuer


async def test_a_list_is_accepted_with_the_names_that_clients_read(stage: Stage) -> None:
    answer = await stage.upload(xlsx(farmers(45)))
    assert answer.status_code == 202, answer.text
    body = answer.json()
    job_id = body["data"]["jobId"]
    assert body["success"] is True
    assert body["message"] == "45 davet başarıyla sıraya alındı"
    assert body["data"]["totalDealers"] == body["data"]["totalRecipients"] == 45
    assert body["data"]["status"] == "Queued"
    assert body["data"]["createdDate"].endswith("Z")
    assert body["data"]["statusCheckUrl"] == answer.headers["location"] == f"{BULK}/{job_id}"
    assert answer.headers["retry-after"] == "1"
    assert await stage.events("invitations.bulk_job.accepted.v1") == [{"job_id": job_id, "sponsor_id": 6, "rows": 45}]
    progress = await stage.progress(job_id)
    assert (progress["status"], progress["percent"]) == ("Queued", 0)


async def test_the_known_wrong_call_is_told_the_right_one(stage: Stage) -> None:
    cases: list[Any] = ["onBehalfOfSponsorId=6", "onbehalfofsponsorid=6", "x=1", "dryRun=true&sponsorId=6"]
    for parameter in cases:
        answer = await stage.upload(xlsx(farmers(2)), path=f"{BULK}?{parameter}", headers=stage.admin())
        assert (answer.status_code, answer.json()["code"]) == (400, "ON_BEHALF_OF_NOT_SUPPORTED")
        assert "POST /api/Sponsorship/admin/farmer/invitations/bulk" in answer.json()["message"]
        as_json = await stage.http.post(f"{BULK}?{parameter}", json={"sponsorId": 6}, headers=stage.admin())
        assert (as_json.status_code, as_json.json()["code"]) == (400, "ON_BEHALF_OF_NOT_SUPPORTED")
        assert await stage.query("SELECT 1 FROM jobs") == []


async def test_who_calls_is_asked_before_how(stage: Stage) -> None:
    admin = "/api/Sponsorship/admin/farmer/invitations/bulk"
    for path in (BULK, f"{BULK}?onBehalfOfSponsorId=6", f"{admin}/excel", admin):
        wrong: Any = {"files": {"x": b"y"}} if path == admin else {"json": {}}
        assert (await stage.http.post(path, **wrong)).status_code == 401
        assert (await stage.http.post(path, **wrong, headers=stage.admin())).status_code in {400, 415}


@pytest.mark.parametrize(
    "part",
    [
        'name="other"; filename="list.xlsx"\r\n\r\nx',
        'name="excelFile"; filename=""\r\n\r\n',
        'name="excelFile"\r\n\r\nlist.xlsx',
        'name="channel"\r\n\r\nSMS',
    ],
    ids=["another field", "not chosen", "a text", "only fields"],
)
async def test_no_file_is_a_clear_error(stage: Stage, part: str) -> None:
    answer = await post_part(stage, part)
    assert (answer.status_code, answer.json()["message"]) == (400, "Excel dosyası zorunludur")


async def test_nothing_at_all_is_no_file_either(stage: Stage) -> None:
    answer = await stage.http.post(BULK, headers=stage.sponsor())
    assert (answer.status_code, answer.json()["message"]) == (400, "Excel dosyası zorunludur")


@pytest.mark.parametrize(
    ("part", "status", "code"),
    [
        ('name="excelFile"; filename="list.xlsx"\r\n\r\n', 422, "FILE_EMPTY"),
        ('name="excelFile"; filename="../../etc/passwd"\r\n\r\nTelefon\n05421396386', 202, None),
        ('filename="list.xlsx"\r\n\r\nx', 422, "VALIDATION_FAILED"),
    ],
    ids=["empty file", "a path for a name", "no name of the field"],
)
async def test_an_odd_part_is_a_clear_answer(stage: Stage, part: str, status: int, code: str | None) -> None:
    answer = await post_part(stage, part)
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text


async def test_two_files_are_refused(stage: Stage) -> None:
    two = [("excelFile", ("a.xlsx", xlsx(farmers(1)))), ("excelFile", ("b.xlsx", xlsx(farmers(2))))]
    answer = await stage.http.post(BULK, files=two, headers=stage.sponsor())
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
    assert await stage.query("SELECT 1 FROM jobs") == []


@pytest.mark.parametrize("body", [b"", b"x", b"--other\r\n\r\nx\r\n--other--\r\n"], ids=["none", "no parts", "other"])
@pytest.mark.parametrize("boundary", ["", "; boundary=parts"])
async def test_what_is_no_form_is_a_clear_error(stage: Stage, body: bytes, boundary: str) -> None:
    headers = stage.sponsor() | {"content-type": f"multipart/form-data{boundary}"}
    answer = await stage.http.post(BULK, content=body, headers=headers)
    assert answer.status_code in {400, 422}, answer.text
    assert answer.json()["success"] is False


async def post_part(stage: Stage, part: str) -> httpx.Response:
    """Post a form of one part, written by hand."""
    body = f"--parts\r\ncontent-disposition: form-data; {part}\r\n--parts--\r\n"
    headers = stage.sponsor() | {"content-type": "multipart/form-data; boundary=parts"}
    return await stage.http.post(BULK, content=body.encode(), headers=headers)


async def test_a_wrong_field_is_refused(stage: Stage) -> None:
    cases: list[Any] = [
        ({"channel": "Pigeon"}, 422, "VALIDATION_FAILED"),
        ({"packageTier": "Z"}, 400, "TIER_INVALID"),
        ({"customMessage": "{isim}"}, 422, "MESSAGE_TEMPLATE_INVALID"),
        ({"onBehalfOfSponsorId": "6"}, 422, "VALIDATION_FAILED"),
        ({"customMessage": "a\0b"}, 422, "VALIDATION_FAILED"),
        ({"consentEvidence": "x" * 1_001}, 422, "VALIDATION_FAILED"),
    ]
    for fields, status, code in cases:
        answer = await stage.upload(xlsx(farmers(1)), fields=fields)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_json_at_this_door_is_told_how_it_is_used(stage: Stage) -> None:
    answer = await stage.http.post(BULK, json={"recipients": []}, headers=stage.sponsor())
    assert answer.status_code == 415
    assert "multipart/form-data" in answer.json()["message"]


async def test_a_file_over_the_limit_is_refused_whether_declared_or_not(stage: Stage) -> None:
    answer = await stage.upload(b"x" * (21 * 1024 * 1024))
    assert (answer.status_code, answer.json()["code"]) == (413, "FILE_TOO_LARGE")


async def test_an_unreadable_file_leaves_no_job(stage: Stage) -> None:
    answer = await stage.upload(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
    assert answer.status_code == 422
    assert answer.json()["code"] == "FILE_NOT_SUPPORTED"
    assert await stage.query("SELECT 1 FROM jobs") == []


async def test_only_sponsors_and_admins_may_upload(stage: Stage) -> None:
    answer = await stage.upload(xlsx(farmers(1)), headers=stage.issuer.headers(9, "Player"))
    assert (answer.status_code, answer.json()["code"]) == (403, "SPONSOR_REQUIRED")
    answer = await stage.http.post(BULK, files={"excelFile": b"x"})
    assert answer.status_code == 401


async def test_a_parameter_given_twice_is_refused_before_anything_is_done(stage: Stage) -> None:
    for path in (f"{BULK}?dryRun=true&dryRun=false", f"{OBO_EXCEL}?onBehalfOfSponsorId=6&onBehalfOfSponsorId=7"):
        answer = await stage.upload(xlsx(farmers(1)), path=path, headers=stage.admin(on_behalf_of="all"))
        assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
    answer = await stage.upload(xlsx(farmers(1)), path=f"{BULK}?dryRun=perhaps")
    assert answer.status_code == 422
    assert await stage.query("SELECT 1 FROM jobs") == []


async def test_the_same_file_again_is_told_and_taken(stage: Stage) -> None:
    content = xlsx(farmers(2))
    first = (await stage.upload(content)).json()
    assert "warnings" not in first
    preview = (await stage.upload(content, path=f"{BULK}?dryRun=true")).json()
    again = (await stage.upload(content)).json()
    for answer in (preview, again):
        (warning,) = answer["warnings"]
        assert f"(iş {first['data']['jobId']})" in warning
    await stage.register(7, "Sponsor")
    assert "warnings" not in (await stage.upload(content, headers=stage.sponsor(7))).json()
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE jobs SET created_at = created_at - interval '25 hours'")
    assert "warnings" not in (await stage.upload(content)).json()


async def test_what_was_left_out_of_a_file_is_told(stage: Stage) -> None:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        sheet = book.add_worksheet("Antalya")
        for number, line in enumerate([HEADER, *farmers(3)]):
            sheet.write_row(number, 0, line)
        sheet.set_row(2, None, None, {"hidden": True})
        book.add_worksheet("Konya")
    for path in (BULK, f"{BULK}?dryRun=true"):
        answer = (await stage.upload(content.getvalue(), path=path)).json()
        warnings = [warning for warning in answer["warnings"] if "Aynı dosya" not in warning]
        assert warnings == [
            "1 gizli satır okunmadı.",
            "Yalnızca «Antalya» sayfası okundu; okunmayanlar: Konya.",
        ]


async def test_a_workbook_with_macros_is_read_without_them(stage: Stage) -> None:
    parts = build.parts(build.table(HEADER, *farmers(2))) | {"xl/vbaProject.bin": b"\0macro"}
    answer = await stage.upload(build.zipped(parts))
    assert (answer.status_code, answer.json()["data"]["totalDealers"]) == (202, 2)


async def test_a_message_that_the_channel_cannot_carry_is_told(stage: Stage) -> None:
    fields = {"channel": "WhatsApp", "customMessage": "Merhaba {farmerName}"}
    answer = (await stage.upload(xlsx(farmers(2)), fields=fields)).json()
    assert "onaylı şablon" in answer["warnings"][0]
    preview = (await stage.upload(xlsx(farmers(3)), path=f"{BULK}?dryRun=true", fields=fields)).json()
    assert "onaylı şablon" in preview["warnings"][0]
    assert (preview["data"]["messagePreview"], preview["data"]["smsSegments"]) == (None, None)


async def test_files_are_read_in_turn(settings: InvitationsSettings, issuer: Issuer) -> None:
    async with opened(settings.model_copy(update={"files_at_once": 1}), issuer) as stage:
        await stage.register(6, "Sponsor")
        async with stage.context.reading:
            waiting = asyncio.create_task(stage.upload(xlsx(farmers(1))))
            await asyncio.sleep(0.3)
            assert not waiting.done()
        assert (await waiting).status_code == 202
        assert (await stage.upload(b"no list")).status_code == 422
        assert (await stage.upload(xlsx(farmers(2)))).status_code == 202, (
            "a file that can't be read gives its turn back"
        )


async def test_a_dry_run_tells_everything_and_does_nothing(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 2)
    await stage.invite([{"phone": phone(1), "codeCount": 1, "packageTier": "M"}])
    lines = [*farmers(3), [phone(0), "Tekrar", "", "", ""], ["0212", "Sabit", "", "", ""]]
    answer = await stage.upload(
        xlsx(lines), path=f"{BULK}?dryRun=true", fields={"customMessage": "Merhaba {farmerName} {deepLink}"}
    )
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert (data["totalRows"], data["validRows"], data["invalidRows"]) == (5, 3, 2)
    assert data["mapping"]["Phone"] == "Telefon"
    assert [(error["row"], error["column"]) for error in data["errors"]] == [(5, "Phone"), (6, "Phone")]
    assert data["alreadyInvited"] == [3]
    assert data["codesNeeded"] == {"M": 2}, "one of the three good rows is invited already"
    assert answer.json()["message"] == "2 satır gönderilebilir, 2 satır hatalı"
    assert data["codesAvailable"]["M"] == 1
    assert data["messagePreview"].startswith("Merhaba Ahmet Yılmaz https://ziraai.example/ref/")
    assert data["smsSegments"]["parts"] == 2
    assert len(await stage.query("SELECT 1 FROM jobs")) == 1
    assert len(provider.messages()) == 1


async def test_the_template_is_a_list_that_can_be_filled_in(stage: Stage) -> None:
    answer = await stage.http.get(f"{LIST}/template", headers=stage.sponsor())
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    sheet = book.worksheets[0]
    assert [cell.value for cell in sheet[1]] == ["Phone", "FarmerName", "Email", "PackageTier", "Notes"]
    sheet.append(["05421396386", "Ahmet", None, "M", None])
    filled = io.BytesIO()
    book.save(filled)
    answer = await stage.upload(filled.getvalue())
    assert (answer.status_code, answer.json()["data"]["totalDealers"]) == (202, 1)


async def test_an_admins_list_for_a_sponsor_is_the_sponsors_job_with_the_admins_evidence(
    stage: Stage, provider: SandboxProvider
) -> None:
    await stage.stock("M", 5)
    answer = await stage.upload(xlsx(farmers(3)), path=f"{OBO_EXCEL}?onBehalfOfSponsorId=6", headers=stage.admin())
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["data"]["jobId"]
    await stage.place_all(job_id)
    async with sending(stage.context):
        await finished(stage, job_id, sent=3)
    assert (await stage.left("M"))["reserved"] == 3
    (started,) = await stage.audit("invitations.bulk.started_on_behalf")
    assert started["details"]["count"] == 3
    assert len(await stage.audit("invitations.invitation.created_on_behalf")) == 3
    sent = await stage.audit("invitations.invitation.sent_on_behalf")
    assert {record["personal"]["phone"] for record in sent} == set(provider.phones())
    (ended,) = await stage.audit("invitations.bulk.sent_on_behalf")
    assert (ended["details"]["success_count"], ended["details"]["failed_count"]) == (3, 0)
    assert {record["on_behalf_of"] for record in (started, *sent, ended)} == {6}
    assert {record["actor"]["id"] for record in (started, *sent, ended)} == {166}


async def test_the_admins_list_is_checked_like_the_admins_call(stage: Stage) -> None:
    cases: list[Any] = [
        ("", {}, 400, "ON_BEHALF_OF_REQUIRED"),
        ("?onBehalfOfSponsorId=", {}, 400, "ON_BEHALF_OF_REQUIRED"),
        ("?onBehalfOfSponsorId=x", {}, 422, "VALIDATION_FAILED"),
        ("?onBehalfOfSponsorId=-6", {}, 422, "VALIDATION_FAILED"),
        ("?onBehalfOfSponsorId=٦", {}, 422, "VALIDATION_FAILED"),
        ("?onBehalfOfSponsorId=99999999999999999999", {}, 422, "VALIDATION_FAILED"),
        ("?onBehalfOfSponsorId=6&sponsorId=7", {}, 400, "ON_BEHALF_OF_NOT_SUPPORTED"),
        ("?onBehalfOfSponsorId=6", {"on_behalf_of": []}, 403, "OBO_NOT_PERMITTED"),
        ("?onBehalfOfSponsorId=404", {"on_behalf_of": "all"}, 404, "SPONSOR_NOT_FOUND"),
    ]
    for query, claims, status, code in cases:
        answer = await stage.upload(xlsx(farmers(1)), path=OBO_EXCEL + query, headers=stage.admin(**claims))
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        answer = await stage.upload(xlsx(farmers(1)), path=OBO_EXCEL + query, headers=stage.sponsor())
        assert (answer.status_code, answer.json()["message"]) == (403, "Admin yetkisi gereklidir")
