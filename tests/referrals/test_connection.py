"""What the door of referrals says about the stored sign-in: each state with its reason and cure."""

from __future__ import annotations

import pytest

from services.referrals.context import Context, make_context
from services.referrals.settings import ReferralsSettings
from tests.referrals.test_routes import an_app
from tests.support.asgi import calling
from tests.support.databases import FreshDatabase
from tests.support.microsoft import SandboxMicrosoft
from tests.support.referrals import another_key, connect, count, rows, run, some_settings
from tests.support.tokens import Issuer


@pytest.mark.parametrize(
    ("idle", "refused_because", "status", "words"),
    [
        ("0 days", None, "healthy", None),
        ("69 days", None, "expiring", "Sign in again before."),
        ("90 days", None, "sign_in_required", "Sign in again."),
        ("0 days", "The sign-in was revoked: sign in again.", "sign_in_required", "sign in again"),
    ],
)
async def test_each_state_of_the_connection_comes_with_its_reason_and_cure(
    context: Context,
    settings: ReferralsSettings,
    sandbox: SandboxMicrosoft,
    issuer: Issuer,
    idle: str,
    refused_because: str | None,
    status: str,
    words: str | None,
) -> None:
    await connect(context, sandbox)
    await rows(
        context,
        "UPDATE partner_center_connections SET refreshed_at = now() - $1::text::interval, refused_because = $2"
        " RETURNING 1",
        idle,
        refused_because,
    )
    async with calling(an_app(context, settings, issuer)) as client:
        body = (await client.get("/api/referrals/connection", headers=issuer.headers(166, "Admin"))).json()
    assert (body["status"], body["account"]) == (status, "ops@contoso.example")
    assert words in body["reason"] if words else body["reason"] is None


async def test_with_the_wrong_key_the_connection_says_so_and_no_sign_in_begins_over_it(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase, issuer: Issuer
) -> None:
    await connect(context, sandbox)
    settings = some_settings(sandbox, fresh, token_cache_keys=another_key())
    other, admin = make_context(settings), issuer.headers(166, "Admin")
    async with calling(an_app(other, settings, issuer)) as client:
        body = (await client.get("/api/referrals/connection", headers=admin)).json()
        assert (body["status"], body["account"]) == ("sign_in_required", "ops@contoso.example")
        assert "HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS" in body["reason"]
        refused = await client.post("/api/referrals/sign-in", headers=admin)
        assert (refused.status_code, refused.json()["code"]) == (409, "TOKEN_CACHE_KEY_MISMATCH")
    await other.close()


async def test_after_the_tenant_has_changed_the_sign_in_of_the_former_one_is_used_no_more(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase, issuer: Issuer
) -> None:
    await connect(context, sandbox)
    settings = some_settings(sandbox, fresh, tenant_id="11111111-2222-4333-8444-555555555555")
    other = make_context(settings)
    done = await run(other)
    assert (done.state, await count(context)) == ("sign_in_required", 0)
    assert "belongs to tenant" in (done.error or "")
    async with calling(an_app(other, settings, issuer)) as client:
        body = (await client.get("/api/referrals/connection", headers=issuer.headers(166, "Admin"))).json()
    assert (body["status"], body["reason"]) == ("sign_in_required", done.error)
    assert (await run(context)).state == "succeeded"  # the setting was a slip
    await other.close()
