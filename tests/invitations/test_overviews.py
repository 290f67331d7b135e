"""What pages of operators read: sponsors with their stock, codes spent per day, jobs, the failed rows of one."""

from __future__ import annotations

import io
from typing import Any

import openpyxl

from tests.invitations.spreadsheets import table, workbook
from tests.invitations.stage import BULK, Stage, phone, recipients

SPONSORS = "/api/Sponsorship/admin/sponsors"


def xlsx(rows: list[list[str]]) -> bytes:
    return workbook(table(*rows))


async def accept(stage: Stage, answer: Any) -> None:
    for result in answer.json()["data"]["results"]:
        accepted = await stage.http.post(
            f"/ref/{result['invitationToken']}/accept", headers={"accept": "application/json"}
        )
        assert accepted.status_code == 200


async def test_sponsors_are_found_by_name_or_id_with_their_stock(stage: Stage) -> None:
    await stage.register(21, "Sponsor", full_name="Yeşil Ova Tarım", version=1)
    await stage.register(22, "Sponsor", full_name="Kapalı Tohum", version=1, is_active=False)
    await stage.register(23, "Player", full_name="Yeşil Oyuncu", version=1)
    await stage.stock("L", 7, sponsor_id=21)
    found = (await stage.http.get(SPONSORS, params={"search": "yeşil"}, headers=stage.admin())).json()
    assert [(sponsor["sponsorId"], sponsor["fullName"]) for sponsor in found["items"]] == [(21, "Yeşil Ova Tarım")]
    assert {tier["tier"]: tier["available"] for tier in found["items"][0]["tiers"]} == {"S": 0, "M": 0, "L": 7, "XL": 0}
    by_id = (await stage.http.get(SPONSORS, params={"search": "22"}, headers=stage.admin())).json()
    assert [(sponsor["sponsorId"], sponsor["isActive"]) for sponsor in by_id["items"]] == [(22, False)]
    ids, cursor = [], None
    while True:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await stage.http.get(SPONSORS, params=params, headers=stage.admin())).json()
        ids += [sponsor["sponsorId"] for sponsor in page["items"]]
        if not (cursor := page["next_cursor"]):
            break
    assert ids == sorted(ids)
    assert {6, 21, 22} <= set(ids)
    assert 23 not in ids
    assert (await stage.http.get(SPONSORS, headers=stage.sponsor())).status_code == 403


async def test_codes_are_counted_on_the_day_on_which_farmers_took_them(stage: Stage) -> None:
    await stage.stock("M", 20)
    await stage.stock("S", 5)
    await accept(stage, await stage.invite(recipients(2, code_count=3)))
    await accept(stage, await stage.invite(recipients(1, first=5, tier="S")))
    await stage.invite(recipients(1, first=8))
    async with stage.context.database.transaction() as conn:
        # One moment for all, or midnight might come between them.
        await conn.execute(
            """UPDATE invitations SET closed_at = now() - CASE phone WHEN $1 THEN interval '40 days' ELSE '0' END
                WHERE closed_at IS NOT NULL""",
            "+90" + phone(1)[1:],
        )
    own = (await stage.http.get("/api/Sponsorship/codes/usage", headers=stage.sponsor())).json()
    assert [(day["tier"], day["spent"]) for day in own["spent"]] == [("M", 3), ("S", 1)], (
        "open and older ones don't count"
    )
    assert own["days"] == 30
    longer = {"days": 60, "sponsorId": 6}
    admin = (await stage.http.get("/api/Sponsorship/admin/codes/usage", params=longer, headers=stage.admin())).json()
    assert sum(day["spent"] for day in admin["spent"]) == 7
    other = (await stage.http.get("/api/Sponsorship/codes/usage", headers=stage.sponsor(99))).json()
    assert other["spent"] == []
    for days in (0, 367):
        wrong = await stage.http.get("/api/Sponsorship/codes/usage", params={"days": days}, headers=stage.sponsor())
        assert wrong.status_code == 422


async def test_jobs_are_listed_to_their_owner_and_to_admins_the_newest_first(stage: Stage) -> None:
    await stage.stock("M", 5)
    first = (await stage.upload(xlsx([["Phone", "FarmerName"], [phone(1), "A"]]))).json()["data"]["jobId"]
    second = (await stage.upload(xlsx([["Phone", "FarmerName"], [phone(2), "B"]]))).json()["data"]["jobId"]
    await stage.invite(recipients(1, first=7))
    own = (await stage.http.get(BULK, headers=stage.sponsor())).json()
    assert [job["jobId"] for job in own["items"]][1:] == [second, first]
    assert (own["items"][1]["totalRecipients"], own["items"][1]["status"]) == (1, "Queued")
    running = (await stage.http.get(BULK, params={"running": True}, headers=stage.admin())).json()
    assert {second, first} <= {job["jobId"] for job in running["items"]}
    assert running["items"][0]["sponsorName"]
    page = (await stage.http.get(BULK, params={"limit": 1, "sponsorId": 6}, headers=stage.admin())).json()
    rest = (await stage.http.get(BULK, params={"cursor": page["next_cursor"]}, headers=stage.admin())).json()
    assert [job["jobId"] for job in rest["items"]] == [second, first]
    assert (await stage.http.get(BULK, headers=stage.sponsor(99))).json()["items"] == []


async def test_the_failed_rows_of_a_job_come_as_a_file_of_their_own(stage: Stage) -> None:
    await stage.stock("M", 5)
    rows = [["Phone", "FarmerName"], [phone(1), "Good"], ["12", "Bad"], [phone(2), "Good too"]]
    job = (await stage.upload(xlsx(rows))).json()["data"]["jobId"]
    answer = await stage.http.get(f"{BULK}/{job}/results", params={"rows": "failed"}, headers=stage.sponsor())
    (sheet,) = openpyxl.load_workbook(io.BytesIO(answer.content)).worksheets
    names = [str(cell) for row in sheet.iter_rows(values_only=True) for cell in row]
    assert "Bad" in names
    assert "Good" not in names
    assert (await stage.http.get(f"{BULK}/{job}/results?rows=some", headers=stage.sponsor())).status_code == 422
