"""What can't be recorded does not happen: an act and its evidence are one transaction."""

from __future__ import annotations

import httpx
import pytest

from services.referrals.context import Context
from services.referrals.settings import ReferralsSettings
from tests.referrals.test_routes import an_app
from tests.support.asgi import calling
from tests.support.databases import FreshDatabase
from tests.support.evidence import refused_evidence
from tests.support.microsoft import SandboxMicrosoft
from tests.support.referrals import connect
from tests.support.tokens import Issuer


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/sync"), ("DELETE", "/connection")], ids=["ask for a sync", "forget the sign-in"]
)
async def test_an_act_that_can_not_be_recorded_does_not_happen(
    context: Context,
    settings: ReferralsSettings,
    fresh: FreshDatabase,
    sandbox: SandboxMicrosoft,
    issuer: Issuer,
    method: str,
    path: str,
) -> None:
    await connect(context, sandbox)
    async with calling(an_app(context, settings, issuer)) as client:

        async def act() -> httpx.Response:
            return await client.request(method, f"/api/referrals{path}", headers=issuer.headers(166, "Admin"))

        async with refused_evidence(fresh):
            assert (await act()).status_code == 500
        assert (await act()).is_success
