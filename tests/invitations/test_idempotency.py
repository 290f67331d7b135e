"""A request that is repeated with its Idempotency-Key has one effect and one answer."""

from __future__ import annotations

import asyncio
from typing import Any

from services.invitations.commands import sweeping
from services.invitations.store import idempotency
from tests.invitations.conftest import SandboxProvider
from tests.invitations.lists import farmers, xlsx
from tests.invitations.stage import INVITE, OBO, Stage, phone, recipients
from tests.invitations.steps import hold_answers
from tests.support.eventually import eventually


async def test_the_same_key_gets_the_same_answer_and_sends_nothing_again(
    stage: Stage, provider: SandboxProvider
) -> None:
    await stage.stock("M", 10)
    first = await stage.invite(recipients(2), key="call-1")
    again = await stage.invite(recipients(2), key="call-1")
    assert (again.status_code, again.json()) == (200, first.json())
    assert len(provider.messages()) == 2
    other = await stage.invite(recipients(3), key="call-1")
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_key_belongs_to_who_sent_it(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 10)
    await stage.invite(recipients(2), key="call-1")
    colleague = stage.issuer.headers(167, "Admin", on_behalf_of=[6]) | {"idempotency-key": "call-1"}
    call = {"sponsorId": 6, "recipients": recipients(1, first=5)}
    answer = await stage.http.post(OBO, json=call, headers=colleague)
    assert answer.json()["data"]["results"][0]["deliveryStatus"] == "Sent"
    assert len(provider.messages()) == 3


async def test_a_call_that_failed_leaves_its_key_free(stage: Stage) -> None:
    assert (await stage.invite(recipients(1), key="call-1")).status_code == 400
    await stage.stock("M", 1)
    answer = await stage.invite(recipients(1), key="call-1")
    assert (answer.status_code, answer.json()["data"]["successCount"]) == (200, 1)


async def test_a_key_whose_call_still_runs_is_a_conflict(stage: Stage) -> None:
    await stage.stock("M", 10)
    answered = hold_answers(stage)
    running = asyncio.create_task(stage.invite(recipients(2), key="call-1"))

    async def begun() -> bool:
        return bool(await stage.query("SELECT 1 FROM deliveries WHERE state = 'sending'"))

    await eventually(begun)
    meanwhile = await stage.invite(recipients(2), key="call-1")
    assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "IDEMPOTENCY_KEY_IN_PROGRESS")
    answered.set()
    assert (await running).status_code == 200


async def test_a_key_is_forgotten_after_a_day(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 10)
    for number in (1, 2):
        await stage.invite(recipients(1, first=number), key=f"call-{number}")
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '23 hours' WHERE key = 'call-1'")
        await conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'call-2'")
        assert await sweeping.forget_keys(conn) == 1
    kept = await stage.invite(recipients(1, first=1), key="call-1")
    assert kept.json()["data"]["results"][0]["deliveryStatus"] == "Sent"
    new = await stage.invite(recipients(1, first=2), key="call-2")
    assert new.json()["data"]["results"][0]["deliveryStatus"] == "Failed - Duplicate"
    assert len(provider.messages()) == 2


async def test_a_key_must_be_sane(stage: Stage) -> None:
    cases: list[Any] = ["", "x" * 256, "çift"]
    for key in cases:
        headers = {name.encode(): value.encode() for name, value in (stage.admin() | {"idempotency-key": key}).items()}
        answer = await stage.http.post(OBO, json={"sponsorId": 6, "recipients": recipients(1)}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "IDEMPOTENCY_KEY_INVALID")


async def test_the_same_upload_with_the_same_key_is_one_job(stage: Stage) -> None:
    headers = stage.sponsor() | {"idempotency-key": "upload-1"}
    content = xlsx(farmers(3))
    first = await stage.upload(content, headers=headers)
    again = await stage.upload(content, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    other = await stage.upload(xlsx(farmers(4)), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(await stage.query("SELECT 1 FROM jobs")) == 1


async def test_a_key_whose_upload_still_runs_is_a_conflict_until_it_ends(stage: Stage) -> None:
    headers = stage.sponsor() | {"idempotency-key": "upload-1"}
    content = xlsx(farmers(3))
    async with stage.context.database.connection() as running:
        transaction = running.transaction()
        await transaction.start()
        await idempotency.claim_key(running, 6, "upload-1", b"the first")
        meanwhile = await stage.upload(content, headers=headers)
        assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "IDEMPOTENCY_KEY_IN_PROGRESS")
        other = await stage.upload(content, headers=headers | {"idempotency-key": "upload-2"})
        assert other.status_code == 202, "another key has nothing to wait for"
        await transaction.rollback()
    assert (await stage.upload(content, headers=headers)).status_code == 202


async def test_a_single_invitation_whose_process_died_is_answered_to_its_repetition(stage: Stage) -> None:
    await stage.stock("M", 1)
    headers = stage.sponsor() | {"idempotency-key": "one-1"}
    body = {"phone": phone(1), "farmerName": "Ahmet", "codeCount": 1}
    first = await stage.http.post(INVITE, json=body, headers=headers)
    async with stage.context.database.transaction() as conn:
        await conn.execute(
            "UPDATE jobs SET reported_at = NULL; UPDATE idempotency_keys SET status = NULL, answer_sealed = NULL"
        )
    assert (await stage.http.post(INVITE, json=body, headers=headers)).status_code == 409
    link = stage.context.settings.link_base_url
    assert await sweeping.report_abandoned_calls(stage.context.database, stage.context.sealer, 0, link) == 1
    again = await stage.http.post(INVITE, json=body, headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())


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
