"""What operators set right after the broker was lost, and after a key was replaced."""

from __future__ import annotations

import base64

from services.invitations.commands import repair
from shared.sealing import Sealer
from tests.invitations.conftest import SECRET_KEYS, SandboxProvider, sending
from tests.invitations.lists import farmers, finished, xlsx
from tests.invitations.stage import LIST, Stage


async def test_rows_whose_messages_went_down_with_the_broker_are_put_in_line_again_and_placed_once(
    stage: Stage, provider: SandboxProvider
) -> None:
    await stage.stock("M", 600)
    job_id = (await stage.upload(xlsx(farmers(520)))).json()["data"]["jobId"]
    untouched = (await stage.upload(xlsx(farmers(5, first=600)))).json()["data"]["jobId"]
    _, second, other = await stage.events("invitations.bulk_chunk.queued.v1")
    # Of three chunks the first is placed; the two others leave the outbox and go down with the broker.
    await stage.query(
        """DELETE FROM outbox WHERE routing_key = 'invitations.bulk_chunk.queued.v1'
           AND id > (SELECT min(id) FROM outbox WHERE routing_key = 'invitations.bulk_chunk.queued.v1')"""
    )
    await stage.place_all(job_id)
    await stage.query("DELETE FROM outbox")
    async with stage.context.database.transaction() as conn:
        assert await repair.requeue_rows(conn) == (2, 25)
    queued = await stage.events("invitations.bulk_chunk.queued.v1")
    assert [(event["job_id"], event["first_row"], event["last_row"]) for event in queued] == [
        (job_id, second["first_row"], second["last_row"]),
        (untouched, other["first_row"], other["last_row"]),
    ]
    async with sending(stage.context):
        for job in (job_id, untouched, job_id):  # and once more, as a broker delivers
            await stage.place_all(job)
        await finished(stage, job_id, sent=520)
        await finished(stage, untouched, sent=5)
    assert set(provider.phones().values()) == {1}
    assert len(provider.phones()) == 525
    async with stage.context.database.transaction() as conn:
        assert await repair.requeue_rows(conn) == (0, 0)


async def test_tokens_move_to_the_newest_key_and_need_no_older_one(stage: Stage) -> None:
    await stage.stock("M", 3)
    await stage.invite(
        [{"phone": f"0542000000{n}", "farmerName": "A", "codeCount": 1, "packageTier": "M"} for n in range(3)]
    )
    links = await link_of_each(stage)
    newest = bytes(range(32, 64))
    both = Sealer([newest, base64.b64decode(SECRET_KEYS)])
    async with stage.context.database.transaction() as conn:
        assert await repair.reseal_tokens(conn, both, after=0) == (3, None)
        assert await repair.reseal_tokens(conn, both, after=0) == (0, None)
    object.__setattr__(stage.context, "sealer", Sealer([newest]))
    assert await link_of_each(stage) == links
    assert len(set(links)) == 3


async def link_of_each(stage: Stage) -> list[str]:
    listed = await stage.http.get(LIST, headers=stage.sponsor())
    found = []
    for item in listed.json()["items"]:
        answer = await stage.http.get(f"{LIST}/{item['invitationId']}", headers=stage.sponsor())
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["invitationLink"])
    return found
