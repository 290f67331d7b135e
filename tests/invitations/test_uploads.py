"""The sponsor's Excel door and the admin's, and the jobs that they start."""

from __future__ import annotations

import io
from typing import Any

import openpyxl
import xlsxwriter

from services.invitations.commands import sweeping
from tests.invitations.conftest import SandboxProvider, sending
from tests.invitations.stage import BULK, LIST, OBO_EXCEL, Stage, phone
from tests.support.eventually import eventually

HEADER = ["Telefon", "Çiftçi Adı", "Email", "PackageTier", "Notes"]
Line = list[Any]


def xlsx(lines: list[Line]) -> bytes:
    """Write a list as Excel does."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"strings_to_formulas": False}) as book:
        sheet = book.add_worksheet()
        for number, line in enumerate([HEADER, *lines]):
            sheet.write_row(number, 0, line)
    return content.getvalue()


def farmers(number: int, *, first: int = 0, tier: str = "M") -> list[Line]:
    """Give so many good lines."""
    return [[phone(index), f"Çiftçi {index}", "", tier, ""] for index in range(first, first + number)]


def thousand_with_25_faults() -> list[Line]:
    """Give 1,000 lines of which 25 are faulty, spread over the file."""
    lines = farmers(1_000)
    faults: list[Line] = [
        ["0212 123 45 67", "Sabit", "", "M", ""],
        ["5,42E+09", "Kısaltılmış", "", "M", ""],
        [phone(0), "Tekrar", "", "M", ""],
        ["05421234567", "Paketsiz", "", "Z", ""],
        ["", "Numarasız", "", "M", ""],
    ]
    for index in range(25):
        lines[40 * index + 7] = list(faults[index % 5])
        if index % 5 == 3:
            lines[40 * index + 7][0] = phone(9_000 + index)
    return lines


async def finished(stage: Stage, job_id: int, **counts: int) -> dict[str, Any]:
    """Wait for a job's end."""

    async def ended() -> bool:
        progress = await stage.progress(job_id)
        return bool(progress["percent"] == 100 and progress["completedDate"])

    await eventually(ended, within=60, what=f"the end of job {job_id}")
    progress = await stage.progress(job_id)
    assert {name: number for name, number in progress["counts"].items() if number} == counts
    return progress


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
    progress = await stage.progress(job_id)
    assert (progress["status"], progress["percent"]) == ("Queued", 0)


async def test_a_thousand_rows_with_25_faulty_ones_make_975_messages(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 1_000)
    answer = await stage.upload(xlsx(thousand_with_25_faults()), fields={"channel": "SMS"})
    job_id = answer.json()["data"]["jobId"]
    chunks = await stage.events("invitations.bulk_chunk.queued.v1")
    assert chunks[0]["first_row"] == 2
    assert len(chunks) == 2
    await stage.place_all(job_id)
    async with sending(stage.context):
        progress = await finished(stage, job_id, sent=975, failed=25)
    assert progress["status"] == "CompletedWithErrors"
    phones = provider.phones()
    assert len(phones) == 975
    assert set(phones.values()) == {1}
    assert await stage.left("M") == {"tier": "M", "available": 25, "reserved": 975, "spent": 0, "expired": 0}
    (completed,) = await stage.events("invitations.bulk_job.completed.v1")
    assert completed == {
        "job_id": job_id, "sponsor_id": 6, "status": "CompletedWithErrors", "succeeded": 975, "failed": 25,
    }  # fmt: skip


async def test_a_chunk_that_arrives_twice_has_one_effect(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 100)
    job_id = (await stage.upload(xlsx(farmers(30)))).json()["data"]["jobId"]
    await stage.place_all(job_id)
    await stage.place_all(job_id)
    async with sending(stage.context):
        await finished(stage, job_id, sent=30)
        await stage.place_all(job_id)
    assert len(provider.messages()) == 30
    assert (await stage.left("M"))["reserved"] == 30
    assert len(await stage.events("invitations.invitation.created.v1")) == 30


async def test_results_give_every_row_with_its_end(stage: Stage) -> None:
    await stage.stock("M", 1)
    lines = [*farmers(2), ["0212 123 45 67", "=cmd|'/c calc'!A1", "", "M", "not"]]
    job_id = (await stage.upload(xlsx(lines))).json()["data"]["jobId"]
    await stage.place_all(job_id)
    async with sending(stage.context):
        await finished(stage, job_id, sent=1, failed=2)
    answer = await stage.http.get(f"{BULK}/{job_id}/results", headers=stage.sponsor())
    assert answer.status_code == 200
    rows = list(openpyxl.load_workbook(io.BytesIO(answer.content)).worksheets[0].values)
    assert [row[0] for row in rows[1:]] == [2, 3, 4]
    assert [row[6] for row in rows[1:]] == ["Sent", "Failed - Insufficient Codes", "Failed - Invalid Phone"]
    assert str(rows[1][8]).startswith("https://ziraai.example/ref/")
    assert rows[2][7] == "Yetersiz kod (M tier). Mevcut: 0, İstenen: 1"
    answer = await stage.http.get(f"{BULK}/{job_id}/results?format=csv", headers=stage.sponsor())
    lines_of_csv = answer.content.decode("utf-8-sig").splitlines()
    assert len(lines_of_csv) == 4
    assert "'=cmd|" in lines_of_csv[3]
    answer = await stage.http.get(f"{BULK}/{job_id}/results?format=pdf", headers=stage.sponsor())
    assert answer.status_code == 400


async def test_progress_is_streamed_to_the_end(stage: Stage) -> None:
    await stage.stock("M", 10)
    job_id = (await stage.upload(xlsx(farmers(3)))).json()["data"]["jobId"]
    await stage.place_all(job_id)
    async with sending(stage.context):
        answer = await stage.http.get(f"{BULK}/{job_id}/events", headers=stage.sponsor())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("event: ")
    assert answer.text.rstrip().splitlines()[-2] == "event: completed"


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


async def test_no_file_is_a_clear_error(stage: Stage) -> None:
    for files in ({"other": b"x"}, {"excelFile": b""}):
        content = {name: (name, body) for name, body in files.items()}
        answer = await stage.http.post(BULK, files=content, headers=stage.sponsor())
        assert (answer.status_code, answer.json()["message"]) == (400, "Excel dosyası zorunludur")


async def test_a_wrong_field_is_refused(stage: Stage) -> None:
    cases: list[Any] = [
        ({"channel": "Pigeon"}, 422, "VALIDATION_FAILED"),
        ({"packageTier": "Z"}, 400, "TIER_INVALID"),
        ({"customMessage": "{isim}"}, 422, "MESSAGE_TEMPLATE_INVALID"),
        ({"onBehalfOfSponsorId": "6"}, 422, "VALIDATION_FAILED"),
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


async def test_the_same_upload_with_the_same_key_is_one_job(stage: Stage) -> None:
    headers = stage.sponsor() | {"idempotency-key": "upload-1"}
    content = xlsx(farmers(3))
    first = await stage.upload(content, headers=headers)
    again = await stage.upload(content, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    other = await stage.upload(xlsx(farmers(4)), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(await stage.query("SELECT 1 FROM jobs")) == 1


async def test_a_second_list_does_not_invite_a_farmer_again(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 10)
    for _ in range(2):
        job_id = (await stage.upload(xlsx(farmers(3)))).json()["data"]["jobId"]
        await stage.place_all(job_id)
    assert await stage.outcomes(job_id) == {"failed": 3}
    async with sending(stage.context):
        await eventually(lambda: len(provider.messages()) == 3)
    assert (await stage.left("M"))["reserved"] == 3


async def test_only_its_owner_and_admins_see_a_job(stage: Stage) -> None:
    await stage.register(7, "Sponsor")
    job_id = (await stage.upload(xlsx(farmers(1)))).json()["data"]["jobId"]
    for suffix in ("", "/results", "/events"):
        answer = await stage.http.get(f"{BULK}/{job_id}{suffix}", headers=stage.sponsor(7))
        assert (answer.status_code, answer.json()["code"]) == (404, "BULK_JOB_NOT_FOUND")
    for action in ("cancel", "retry"):
        answer = await stage.http.post(f"{BULK}/{job_id}/{action}", headers=stage.sponsor(7))
        assert answer.status_code == 404
    assert (await stage.http.get(f"{BULK}/{job_id}", headers=stage.admin())).status_code == 200
    assert (await stage.http.get(f"{BULK}/999999", headers=stage.admin())).status_code == 404


async def test_cancelling_stops_what_was_not_sent(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 10)
    job_id = (await stage.upload(xlsx(farmers(6)))).json()["data"]["jobId"]
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE job_rows SET outcome = 'sent' WHERE row_no = 2")
    await stage.place_all(job_id)
    answer = await stage.http.post(f"{BULK}/{job_id}/cancel", headers=stage.sponsor())
    assert (answer.status_code, answer.json()["data"]["cancelled"]) == (200, 5)
    async with sending(stage.context):
        progress = await finished(stage, job_id, sent=1, cancelled=5)
    assert progress["status"] == "Cancelled"
    assert provider.messages() == []
    assert (await stage.left("M"))["available"] == 10
    again = await stage.http.post(f"{BULK}/{job_id}/cancel", headers=stage.sponsor())
    assert (again.status_code, again.json()["code"]) == (409, "NOTHING_TO_CANCEL")


async def test_retrying_serves_only_what_failed(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 2)
    provider.turn(rejected_phones=["+905420000000"])
    job_id = (await stage.upload(xlsx([*farmers(3), ["x", "", "", "", ""]]))).json()["data"]["jobId"]
    await stage.place_all(job_id)
    async with sending(stage.context):
        await finished(stage, job_id, sent=1, failed=3)
        provider.turn(rejected_phones=[])
        await stage.stock("M", 5)
        answer = await stage.http.post(f"{BULK}/{job_id}/retry", headers=stage.sponsor())
        assert (answer.status_code, answer.json()["data"]["retried"]) == (202, 2)
        await stage.place_all(job_id)
        progress = await finished(stage, job_id, sent=3, failed=1)
        again = await stage.http.post(f"{BULK}/{job_id}/retry", headers=stage.sponsor())
    assert progress["status"] == "CompletedWithErrors"
    assert (again.status_code, again.json()["code"]) == (409, "NOTHING_TO_RETRY")
    assert set(provider.phones().values()) == {1}
    assert (await stage.left("M"))["reserved"] == 3


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
    assert data["codesNeeded"] == {"M": 3}
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
        ("?onBehalfOfSponsorId=x", {}, 422, "VALIDATION_FAILED"),
        ("?onBehalfOfSponsorId=6", {"on_behalf_of": []}, 403, "OBO_NOT_PERMITTED"),
        ("?onBehalfOfSponsorId=404", {"on_behalf_of": "all"}, 404, "SPONSOR_NOT_FOUND"),
    ]
    for query, claims, status, code in cases:
        answer = await stage.upload(xlsx(farmers(1)), path=OBO_EXCEL + query, headers=stage.admin(**claims))
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        answer = await stage.upload(xlsx(farmers(1)), path=OBO_EXCEL + query, headers=stage.sponsor())
        assert (answer.status_code, answer.json()["message"]) == (403, "Admin yetkisi gereklidir")


async def test_a_call_whose_process_died_is_reported_by_the_sweeper(stage: Stage) -> None:
    await stage.stock("M", 2)
    await stage.invite([{"phone": phone(1), "codeCount": 1}], key="call-1")
    async with stage.context.database.transaction() as conn:
        await conn.execute(
            "UPDATE jobs SET reported_at = NULL; UPDATE idempotency_keys SET status = NULL, answer_sealed = NULL"
        )
        await conn.execute("DELETE FROM outbox")
    assert await sweeping.report_abandoned_calls(stage.context.database, stage.context.sealer, 0, "https://x") == 1
    assert len(await stage.audit("invitations.bulk.sent_on_behalf")) == 1
    again = await stage.invite([{"phone": phone(1), "codeCount": 1}], key="call-1")
    assert (again.status_code, again.json()["data"]["successCount"]) == (200, 1)
    assert await sweeping.report_abandoned_calls(stage.context.database, stage.context.sealer, 0, "https://x") == 0
