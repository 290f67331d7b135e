"""The steps of the delivery state machine, made by hand, as a sender that dies after one of them would."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from services.invitations.store import deliveries
from tests.invitations.lists import farmers, xlsx
from tests.invitations.stage import Stage
from tests.support.eventually import eventually


async def queued(stage: Stage, number: int = 3) -> int:
    """Put so many messages in line; gives the job."""
    await stage.stock("M", number)
    job_id = int((await stage.upload(xlsx(farmers(number)))).json()["data"]["jobId"])
    await stage.place_all(job_id)
    return job_id


def hold_answers(stage: Stage) -> asyncio.Event:
    """Let SMS reach the provider and keep its answers back until the event is set: so long they are under way."""
    told = asyncio.Event()

    async def wait(_: httpx.Response) -> None:
        await told.wait()

    assert stage.context.verimor is not None
    stage.context.verimor._client.event_hooks = {"response": [wait]}
    return told


async def states(stage: Stage) -> set[str]:
    return {row["state"] for row in await stage.query("SELECT DISTINCT state FROM deliveries")}


async def all_under_way(stage: Stage) -> None:
    """Wait until every message is being sent."""

    async def is_so() -> bool:
        return await states(stage) == {"sending"}

    await eventually(is_so, what="messages under way")


async def age_leases(stage: Stage) -> None:
    """Let the leases of a dead sender run out."""
    async with stage.context.database.transaction() as conn:
        await conn.execute("UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL")


async def claim(stage: Stage, sender: str = "dead") -> list[Any]:
    async with stage.context.database.transaction() as conn:
        return await deliveries.claim_due(conn, "verimor", sender, 100, 60)


async def begin(stage: Stage, ids: list[Any], sender: str = "dead", batch_id: Any = None) -> dict[Any, int]:
    async with stage.context.database.transaction() as conn:
        return await deliveries.begin_sending(conn, dict.fromkeys(ids, batch_id), sender, 60)
