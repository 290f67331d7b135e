"""The jobs that lists become: progress, results, stopping, trying again."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta

import openpyxl
import pytest

from services.invitations.commands import sweeping
from services.invitations.commands.ending import end_invitations
from services.invitations.domain.bulk import Refusal
from services.invitations.domain.invitations import Status
from services.invitations.domain.jobs import Progress
from services.invitations.domain.tokens import seal_name
from services.invitations.routes import jobs as routes
from services.invitations.store import invitations, jobs
from tests.invitations.conftest import SandboxProvider, sending
from tests.invitations.lists import farmers, finished, thousand_with_25_faults, xlsx
from tests.invitations.stage import BULK, Stage, recipients
from tests.invitations.steps import all_under_way, hold_answers, queued, states
from tests.support.eventually import eventually


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
    assert answer.text.startswith("id: ")
    assert answer.text.rstrip().splitlines()[-2] == "event: completed"


async def test_who_comes_back_to_the_stream_is_told_only_what_is_new(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.stock("M", 6)
    begun = asyncio.Event()
    event_id = routes._event_id

    def noting(progress: Progress) -> str:
        begun.set()
        return event_id(progress)

    monkeypatch.setattr(routes, "_event_id", noting)

    async def followed(first: int, *, last: str) -> tuple[str, list[dict[str, str]]]:
        job_id = (await stage.upload(xlsx(farmers(3, first=first)))).json()["data"]["jobId"]
        url = f"{BULK}/{job_id}/events"
        begun.clear()
        stream = asyncio.create_task(stage.http.get(url, headers=stage.sponsor() | {"last-event-id": last}))
        await begun.wait()  # the stream knows how the job begins
        await stage.place_all(job_id)
        async with sending(stage.context):
            await finished(stage, job_id, sent=3)
        events = (await stream).text.strip().split("\n\n")
        return url, [dict(line.split(": ", 1) for line in event.splitlines()) for event in events]

    _, seen = await followed(0, last="")
    assert (seen[0]["event"], seen[-1]["event"]) == ("progress", "completed")
    assert len({event["id"] for event in seen}) == len(seen)
    url, rest = await followed(10, last=seen[0]["id"])  # this job begins as that one did
    assert seen[0]["id"] not in {event["id"] for event in rest}
    again = await stage.http.get(url, headers=stage.sponsor() | {"last-event-id": seen[0]["id"]})
    assert again.text.count("event: ") == again.text.count("event: completed") == 1
    done = await stage.http.get(url, headers=stage.sponsor() | {"last-event-id": rest[-1]["id"]})
    assert (done.status_code, done.content) == (204, b""), "a browser comes back for ever unless it is told so"


async def test_rows_of_a_sponsor_who_was_disabled_meanwhile_wait_for_a_retry(stage: Stage) -> None:
    await stage.stock("M", 2)
    job_id = (await stage.upload(xlsx(farmers(2)))).json()["data"]["jobId"]
    await stage.register(6, "Sponsor", version=2, is_active=False, status="disabled")
    await stage.place_all(job_id)
    async with sending(stage.context):
        progress = await finished(stage, job_id, failed=2)
        assert progress["status"] == "Failed"
        results = await stage.http.get(f"{BULK}/{job_id}/results?format=csv", headers=stage.admin())
        assert results.text.count("Failed - Sponsor Disabled;Sponsor hesabı aktif değil") == 2
        await stage.register(6, "Sponsor", version=3)
        assert (await stage.http.post(f"{BULK}/{job_id}/retry", headers=stage.sponsor())).status_code == 202
        await stage.place_all(job_id)
        await finished(stage, job_id, sent=2)


async def test_a_second_list_does_not_invite_a_farmer_again(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 10)
    for _ in range(2):
        job_id = (await stage.upload(xlsx(farmers(3)))).json()["data"]["jobId"]
        await stage.place_all(job_id)
    assert await stage.outcomes(job_id) == {"failed": 3}
    async with sending(stage.context):
        await eventually(lambda: len(provider.messages()) == 3)
    assert (await stage.left("M"))["reserved"] == 3


async def test_an_admin_without_a_grant_may_watch_a_job_but_not_touch_it(stage: Stage) -> None:
    job_id = (await stage.upload(xlsx(farmers(1)))).json()["data"]["jobId"]
    other_admin = stage.admin(on_behalf_of=[7])
    assert (await stage.http.get(f"{BULK}/{job_id}", headers=other_admin)).status_code == 200
    for action in ("cancel", "retry"):
        answer = await stage.http.post(f"{BULK}/{job_id}/{action}", headers=other_admin)
        assert (answer.status_code, answer.json()["code"]) == (403, "OBO_NOT_PERMITTED")
    assert await stage.outcomes(job_id) == {"waiting": 1}
    assert (await stage.http.post(f"{BULK}/{job_id}/cancel", headers=stage.admin())).status_code == 200


async def test_a_job_has_ended_when_its_end_is_written_down(stage: Stage) -> None:
    """Status, moment and event are one fact: nobody reads `Completed` without a date."""
    await stage.stock("M", 1)
    job_id = (await stage.upload(xlsx(farmers(1)))).json()["data"]["jobId"]
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE job_rows SET outcome = 'sent'")
    progress = await stage.progress(job_id)
    assert (progress["status"], progress["percent"], progress["completedDate"]) == ("Processing", 99, None)
    async with stage.context.database.transaction() as conn:
        await sweeping.finish_jobs(conn)
    progress = await stage.progress(job_id)
    assert (progress["status"], progress["percent"]) == ("Completed", 100)
    assert progress["completedDate"].endswith("Z")
    (completed,) = await stage.events("invitations.bulk_job.completed.v1")
    assert completed["job_id"] == job_id


async def test_progress_tells_rate_and_estimated_end(stage: Stage) -> None:
    job_id = (await stage.upload(xlsx(farmers(100)))).json()["data"]["jobId"]
    async with stage.context.database.transaction() as conn:
        created = await conn.fetchval("UPDATE jobs SET created_at = now() - interval '10 s' RETURNING created_at")
        await conn.execute("UPDATE job_rows SET outcome = 'sent' WHERE row_no <= 51")
    asked = datetime.now(UTC)
    progress = await stage.progress(job_id)
    told = datetime.now(UTC)
    assert (progress["status"], progress["percent"], progress["processedCount"]) == ("Processing", 50, 50)
    rate = progress["rowsPerSecond"]
    slowest, fastest = (50 / (moment - created).total_seconds() for moment in (told, asked))
    assert round(slowest, 1) <= rate <= round(fastest, 1) <= 5.0
    rest = timedelta(seconds=50 / rate)
    assert asked + rest <= datetime.fromisoformat(progress["estimatedEnd"]) <= told + rest
    assert (progress["successCount"], progress["counts"]["waiting"]) == (50, 50)


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


async def test_a_farmer_who_accepted_before_the_message_was_refused_is_not_invited_again(
    stage: Stage, provider: SandboxProvider
) -> None:
    """A second invitation of the row can't be made, and would hold up all rows of its chunk for ever."""
    await stage.stock("M", 4)
    provider.turn(rejected_phones=["+905420000000"])
    answered = hold_answers(stage)
    call = asyncio.create_task(stage.invite([*recipients(1), *recipients(1, first=1, code_count=9)]))
    await all_under_way(stage)
    (invitation,) = await stage.query("SELECT id, token_sealed FROM invitations")
    token = stage.context.sealer.open(invitation["token_sealed"], bound_to=seal_name(invitation["id"])).decode()
    assert (await stage.http.post(f"/ref/{token}/accept")).status_code == 200
    answered.set()
    statuses = [result["deliveryStatus"] for result in (await call).json()["data"]["results"]]
    assert statuses == ["Failed - Delivery", "Failed - Insufficient Codes"]
    await stage.stock("M", 9)
    job_id = await stage.last_job()
    answer = await stage.http.post(f"{BULK}/{job_id}/retry", headers=stage.sponsor())
    assert (answer.status_code, answer.json()["data"]["retried"]) == (202, 1)
    await stage.place_all(job_id)
    async with sending(stage.context):
        await finished(stage, job_id, sent=1, failed=1)
    assert await stage.left("M") == {"tier": "M", "available": 3, "reserved": 9, "spent": 1, "expired": 0}


async def test_a_job_does_not_end_while_its_failed_rows_are_put_back_in_line(stage: Stage) -> None:
    """Who looks for finished jobs at that moment sees the rows as they were before."""
    job_id = (await stage.upload(xlsx(farmers(3)))).json()["data"]["jobId"]
    await stage.place_all(job_id)
    await stage.stock("M", 3)

    async def finish() -> int:
        async with stage.context.database.transaction() as conn:
            return await sweeping.finish_jobs(conn)

    async with stage.context.database.transaction() as conn:
        await jobs.lock_job(conn, job_id)
        assert len(await jobs.reopen_failed_rows(conn, job_id, [Refusal.INSUFFICIENT_CODES])) == 3
        finishing = asyncio.create_task(finish())

        async def decided_or_waiting() -> bool:
            waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            return finishing.done() or bool(await stage.query(waits))

        await eventually(decided_or_waiting)
    assert await finishing == 0
    assert (await stage.progress(job_id))["status"] == "Queued"
    await stage.place_all(job_id)
    async with sending(stage.context):
        await finished(stage, job_id, sent=3)
    (completed,) = await stage.events("invitations.bulk_job.completed.v1")
    assert completed["succeeded"] == 3


@pytest.mark.parametrize("who", ["the job", "the farmer"])
async def test_an_invitation_may_be_ended_from_two_sides_at_once(stage: Stage, who: str) -> None:
    """Each holds the invitation before its message; the other way round the two would wait for each other."""
    job_id = await queued(stage, 1)
    (row,) = await stage.query("SELECT id, token_sealed FROM invitations")
    token = stage.context.sealer.open(row["token_sealed"], bound_to=seal_name(row["id"])).decode()
    path = f"{BULK}/{job_id}/cancel" if who == "the job" else f"/ref/{token}/opt-out"
    async with stage.context.database.transaction() as conn:
        await invitations.lock_invitation(conn, row["id"])
        other = asyncio.create_task(stage.http.post(path, headers=stage.sponsor()))

        async def waits() -> bool:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            return bool(await stage.query(waiting))

        await eventually(waits)
        assert await end_invitations(conn, [row["id"]], Status.CANCELLED, "CANCELLED") == 1
    assert (await other).status_code == (409 if who == "the job" else 200)
    assert await states(stage) == {"cancelled"}
    assert await stage.outcomes(job_id) == {"cancelled": 1}


async def test_a_job_ends_although_a_farmer_was_faster_than_the_message(stage: Stage) -> None:
    """The link is in the results, so an invitation may be accepted before its message goes out."""
    await stage.stock("M", 2)
    job_id = (await stage.upload(xlsx(farmers(2)))).json()["data"]["jobId"]
    await stage.place_all(job_id)
    results = await stage.http.get(f"{BULK}/{job_id}/results?format=csv", headers=stage.sponsor())
    link = results.text.splitlines()[1].rpartition(";")[2]
    assert (await stage.http.post(link.removeprefix("https://ziraai.example") + "/accept")).status_code == 200
    answer = await stage.http.post(f"{BULK}/{job_id}/cancel", headers=stage.sponsor())
    assert (answer.status_code, answer.json()["data"]["cancelled"]) == (200, 1)
    async with sending(stage.context):
        await finished(stage, job_id, cancelled=2)
    assert await stage.left("M") == {"tier": "M", "available": 1, "reserved": 0, "spent": 1, "expired": 0}
