"""Accounts as auth tells of them."""

from __future__ import annotations

import pytest

from services.invitations.consumers import CHUNK_HANDLERS, EVENT_HANDLERS
from shared import topology
from shared.events import UserChanged
from shared.outbox import add
from shared.worker import Work
from tests.invitations.stage import Stage, recipients
from tests.support.builders import a_user_registered, an_envelope
from tests.support.eventually import eventually
from tests.support.messages import publishing, to_queue
from tests.support.running import running


async def test_an_older_state_of_an_account_changes_nothing(stage: Stage) -> None:
    await stage.register(7, "Sponsor", version=3, full_name="Yeni")
    await stage.register(7, "Player", version=2, full_name="Eski", is_active=False)
    (row,) = await stage.query("SELECT * FROM accounts WHERE id = 7")
    assert (row["full_name"], row["roles"], row["is_active"], row["version"]) == ("Yeni", ["Sponsor"], True, 3)


async def test_a_sponsor_who_was_disabled_can_no_longer_be_invited_for(stage: Stage) -> None:
    await stage.stock("M", 2)
    await stage.register(6, "Sponsor", version=2, is_active=False, status="disabled")
    answer = await stage.invite(recipients(1))
    assert (answer.status_code, answer.json()["message"]) == (409, "Sponsor hesabı aktif değil")


@pytest.mark.parametrize("copies", [1, 3])
async def test_events_about_accounts_arrive_through_the_broker(stage: Stage, broker: str, copies: int) -> None:
    envelope, body = an_envelope(8, full_name="Sekiz")
    changed = UserChanged(**(a_user_registered(8, full_name="Sekiz Değişti").model_dump() | {"version": 2}))
    work = [Work(topology.INVITATIONS_EVENTS, EVENT_HANDLERS)]
    async with (
        running(stage.context.database, broker, context=stage.context, work=work),
        publishing(broker) as publisher,
    ):
        for _ in range(copies):
            await publisher.publish([to_queue("invitations.events", body)])

        async def name() -> str:
            rows = await stage.query("SELECT full_name FROM accounts WHERE id = 8")
            return str(rows[0]["full_name"]) if rows else ""

        async def is_known() -> bool:
            return await name() == "Sekiz"

        await eventually(is_known)
        async with stage.context.database.transaction() as conn:
            await add(conn, changed)

        async def is_changed() -> bool:
            return await name() == "Sekiz Değişti"

        await eventually(is_changed)
    handled = await stage.query("SELECT count(*) AS n FROM inbox WHERE event_id = $1", envelope.id)
    assert handled[0]["n"] == 1


def test_every_queue_of_the_service_has_its_handlers() -> None:
    assert set(EVENT_HANDLERS) == set(topology.INVITATIONS_EVENTS.binds)
    assert set(CHUNK_HANDLERS) == set(topology.INVITATIONS_CHUNKS.binds)
