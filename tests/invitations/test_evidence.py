"""What can't be recorded does not happen: an act and its evidence are one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.invitations.conftest import SandboxProvider
from tests.invitations.lists import farmers, xlsx
from tests.invitations.stage import LIST, Stage, recipients
from tests.support.databases import FreshDatabase
from tests.support.evidence import refused_evidence


async def add_codes(stage: Stage) -> httpx.Response:
    body = {"sponsorId": 6, "tier": "M", "count": 5}
    return await stage.http.post("/api/Sponsorship/admin/codes", json=body, headers=stage.admin())


async def invite_on_behalf(stage: Stage) -> httpx.Response:
    return await stage.invite(recipients(2))


async def upload_a_list(stage: Stage) -> httpx.Response:
    return await stage.upload(xlsx(farmers(3)))


async def take_one_back(stage: Stage) -> httpx.Response:
    (first,) = await stage.query("SELECT min(id) AS id FROM invitations")
    return await stage.http.post(f"{LIST}/{first['id']}/cancel", headers=stage.sponsor())


@pytest.mark.parametrize("act", [add_codes, invite_on_behalf, upload_a_list, take_one_back])
async def test_an_act_that_can_not_be_recorded_does_not_happen(
    stage: Stage, fresh: FreshDatabase, provider: SandboxProvider, act: Callable[[Stage], Awaitable[httpx.Response]]
) -> None:
    await stage.stock()
    await stage.invite(recipients(1, first=9))
    provider.reset()
    async with refused_evidence(fresh):
        assert (await act(stage)).status_code == 500
    assert provider.messages() == []
    assert (await act(stage)).is_success
