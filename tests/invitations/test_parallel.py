"""Random parallel calls and jobs of one sponsor: nothing held twice, oversold, half served or falsely refused."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from services.invitations.commands import placing
from services.invitations.domain import tokens
from shared.db import Row
from tests.invitations.conftest import SandboxProvider, sending
from tests.invitations.lists import farmers, xlsx
from tests.invitations.stage import BULK, LIST, Stage, phone, recipients
from tests.support.eventually import eventually

TIERS = ("S", "M", "L", "XL")


async def place_all(stage: Stage, job_id: int) -> None:
    """Place a job's chunks while others place theirs, each chunk twice."""
    await asyncio.gather(stage.place_all(job_id), stage.place_all(job_id))


async def one_list(stage: Stage, chance: random.Random, first: int) -> None:
    lines: list[list[Any]] = [
        [phone(first + index), f"Çiftçi {index}", "", chance.choice(["", *TIERS]), ""]
        for index in range(chance.randint(5, 40))
    ]
    answer = await stage.upload(xlsx(lines))
    await place_all(stage, answer.json()["data"]["jobId"])


async def one_call(stage: Stage, chance: random.Random, first: int) -> None:
    body = [
        {
            "phone": phone(first + index),
            "codeCount": chance.choice([1, 1, 2, 5, 30]),
            "packageTier": chance.choice([None, *TIERS]),
        }
        for index in range(chance.randint(1, 20))
    ]
    answer = await stage.invite(body)
    assert answer.status_code in {200, 400}, answer.text


async def ledger(stage: Stage) -> dict[str, int]:
    """Count everything that must never be."""
    (row,) = await stage.query(
        """WITH held AS (SELECT invitation_id, count(*) AS n FROM invitation_codes GROUP BY 1)
           SELECT (SELECT count(*) FROM invitations i LEFT JOIN held ON held.invitation_id = i.id
                    WHERE i.status = 'Pending' AND coalesce(held.n, 0) <> i.code_count) AS partly_served,
                  (SELECT count(*) FROM codes WHERE state = 'reserved'
                      AND NOT EXISTS (SELECT FROM invitation_codes WHERE code_id = codes.id)) AS reserved_for_nobody,
                  (SELECT count(*) FROM invitation_codes JOIN codes ON codes.id = code_id
                     JOIN invitations i ON i.id = invitation_id
                    WHERE state <> CASE i.status WHEN 'Accepted' THEN 'spent' ELSE 'reserved' END) AS held_unreserved,
                  (SELECT count(*) FROM invitation_codes JOIN invitations i ON i.id = invitation_id
                    WHERE i.status IN ('Cancelled', 'Expired')) AS held_by_ended,
                  (SELECT count(*) FROM invitation_codes ic JOIN codes c ON c.id = ic.code_id
                     JOIN invitations i ON i.id = ic.invitation_id
                    WHERE c.tier <> i.tier OR c.sponsor_id <> i.sponsor_id) AS of_another_tier,
                  (SELECT count(*) FROM job_rows WHERE outcome = 'waiting') AS waiting"""
    )
    return dict(row)


@pytest.mark.parametrize("seed", range(3))
async def test_parallel_calls_and_lists_share_the_stock_justly(
    stage: Stage, provider: SandboxProvider, seed: int
) -> None:
    chance = random.Random(seed)
    provider.turn(reports=False)
    stocked = {tier: chance.randint(20, 120) for tier in TIERS}
    for tier, count in stocked.items():
        await stage.stock(tier, count)
    async with sending(stage.context):
        await asyncio.gather(
            *(
                chance.choice([one_list, one_call])(stage, random.Random(f"{seed}/{number}"), 1_000 * number)
                for number in range(12)
            )
        )

        async def settled() -> bool:
            return not await stage.query("SELECT 1 FROM job_rows WHERE outcome IN ('waiting', 'sending', 'unknown')")

        await eventually(settled, within=120)
    assert not any((await ledger(stage)).values())
    left = {tier: (await stage.left(tier)) for tier in TIERS}
    assert all(left[tier]["available"] + left[tier]["reserved"] == stocked[tier] for tier in TIERS)
    sent = await stage.query("SELECT phone FROM invitations WHERE status = 'Pending'")
    assert Counter(row["phone"] for row in sent) == Counter(provider.phones())
    # Stock only shrinks here: who was refused for want of codes would be refused at the end as well.
    refused = await stage.query("SELECT DISTINCT tier, code_count FROM job_rows WHERE refusal = 'INSUFFICIENT_CODES'")
    assert refused, "there were codes for everybody: the test proves nothing"
    for row in refused:
        short = [row["tier"]] if row["tier"] else list(TIERS)
        assert all(left[tier]["available"] < row["code_count"] for tier in short), f"a false {row}"


async def test_whatever_happens_at_once_the_ledger_balances(stage: Stage, provider: SandboxProvider) -> None:
    """Lists and calls beside farmers who accept or refuse, sponsors who take back, cancel and retry, and refusals."""
    chance = random.Random(11)
    provider.turn(reports=False, rejected_phones=[f"+90{phone(1_000 * number + 1)[1:]}" for number in range(12)])
    stocked = dict.fromkeys(TIERS, 60)
    for tier, count in stocked.items():
        await stage.stock(tier, count)

    async def one_of_them() -> list[Row]:
        return await stage.query("SELECT id, job_id, token_sealed FROM invitations ORDER BY random() LIMIT 1")

    async def meddle() -> None:
        for _ in range(25):
            await asyncio.sleep(0.02)
            rows = await eventually(one_of_them)
            invitation_id, job_id = rows[0]["id"], rows[0]["job_id"]
            token = stage.context.sealer.open(
                rows[0]["token_sealed"], bound_to=tokens.seal_name(invitation_id)
            ).decode()
            path, headers = chance.choice([
                (f"/ref/{token}/accept", {}),
                (f"/ref/{token}/accept", {}),
                (f"/ref/{token}/opt-out", {}),
                (f"{LIST}/{invitation_id}/cancel", stage.sponsor()),
                (f"{BULK}/{job_id}/cancel", stage.sponsor()),
                (f"{BULK}/{job_id}/retry", stage.sponsor()),
            ])  # fmt: skip
            answer = await stage.http.post(path, headers=headers)
            assert answer.status_code < 500, (path, answer.text)

    async with sending(stage.context):
        works = [
            chance.choice([one_list, one_call])(stage, random.Random(number), 1_000 * number) for number in range(12)
        ]
        await asyncio.gather(*works, meddle(), meddle())
        jobs = {
            row["job_id"] for row in await stage.query("SELECT DISTINCT job_id FROM job_rows WHERE outcome = 'waiting'")
        }
        for job_id in jobs:  # what a retry put in line
            await stage.place_all(job_id)

        async def settled() -> bool:
            return not await stage.query("SELECT 1 FROM job_rows WHERE outcome IN ('waiting', 'sending', 'unknown')")

        await eventually(settled, within=120)
    assert not any((await ledger(stage)).values())
    for tier in TIERS:
        left = await stage.left(tier)
        assert left["available"] + left["reserved"] + left["spent"] == stocked[tier]
        (row,) = await stage.query(
            """SELECT count(*) FILTER (WHERE state = 'available') AS available,
                      count(*) FILTER (WHERE state = 'reserved') AS reserved,
                      count(*) FILTER (WHERE state = 'spent') AS spent FROM codes WHERE tier = $1""",
            tier,
        )
        assert dict(row) == {name: left[name] for name in ("available", "reserved", "spent")}, "two ways of counting"
    statuses = {row["status"] for row in await stage.query("SELECT DISTINCT status FROM invitations")}
    assert {"Pending", "Accepted", "Cancelled"} <= statuses, "nobody meddled"
    texts = Counter((message["phone"], message["text"]) for message in provider.messages())
    assert set(texts.values()) == {1}, "one invitation was sent twice"


async def test_a_call_that_waits_for_a_rollback_gets_the_codes(stage: Stage) -> None:
    """The false shortage of SKIP LOCKED: a transaction holds all codes, then gives them back."""
    await stage.stock("M", 10)
    async with stage.context.database.connection() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT 1 FROM accounts WHERE id = 6 FOR NO KEY UPDATE")
        await holder.execute("UPDATE codes SET state = 'reserved'")
        call = asyncio.create_task(stage.invite([{"phone": phone(1), "codeCount": 10, "packageTier": "M"}]))
        await asyncio.sleep(0.3)
        assert not call.done()
        await transaction.rollback()
    answer = await call
    assert answer.json()["data"]["results"][0]["deliveryStatus"] == "Sent"


async def test_two_calls_for_one_farmer_at_once_are_one_invitation(stage: Stage, provider: SandboxProvider) -> None:
    await stage.stock("M", 10)
    body = [{"phone": phone(1), "codeCount": 1, "packageTier": "M"}]
    answers = await asyncio.gather(*(stage.invite(body) for _ in range(6)))
    statuses = Counter(answer.json()["data"]["results"][0]["deliveryStatus"] for answer in answers)
    assert statuses == {"Sent": 1, "Failed - Duplicate": 5}
    assert len(provider.messages()) == 1


async def test_a_farmer_who_refuses_while_another_invitation_is_made_gets_no_message_of_it(
    stage: Stage, provider: SandboxProvider
) -> None:
    await stage.stock("M", 2)
    (result,) = (await stage.invite(recipients(1, code_count=2))).json()["data"]["results"]
    await stage.register(7, "Sponsor")
    await stage.stock("M", 1, sponsor_id=7)
    job_id = (await stage.upload(xlsx(farmers(1)), headers=stage.sponsor(7))).json()["data"]["jobId"]
    (chunk,) = await stage.events("invitations.bulk_chunk.queued.v1")
    async with stage.context.database.transaction() as conn:
        terms = stage.context.terms()
        placed = await placing.place_chunk(conn, job_id, chunk["first_row"], chunk["last_row"], terms)
        refusing = asyncio.create_task(stage.http.post(f"/ref/{result['invitationToken']}/opt-out"))
        await asyncio.sleep(0.3)
        assert not refusing.done(), "it waits for the invitation that is being made"
    assert (await refusing).status_code == 200
    await stage.context.sender.send_now(placed.delivery_ids, 5)
    assert await stage.outcomes(job_id) == {"cancelled": 1}
    assert (await stage.left("M", sponsor_id=7))["available"] == 1
    assert len(provider.messages()) == 1
