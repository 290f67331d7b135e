"""Sign-in and connection on a real PostgreSQL against the sandbox: rows, outbox and audit events after each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.referrals.commands import connection, sign_in
from services.referrals.commands.connection import get_credential
from services.referrals.context import Context, make_context
from services.referrals.domain.failures import (
    MicrosoftUnavailable,
    SignInRefused,
    SignInRequired,
    TokenCacheInvalid,
    TokenCacheKeyMismatch,
)
from services.referrals.store import connections as connection_store
from tests.support.databases import FreshDatabase
from tests.support.eventually import eventually
from tests.support.microsoft import SandboxMicrosoft
from tests.support.referrals import (
    ADMIN,
    another_key,
    audited,
    connect,
    events_of,
    plain_cache,
    rows,
    run,
    some_settings,
)


async def test_a_sign_in_is_stored_sealed_and_audited_without_its_secrets(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    await connect(context, sandbox)
    stored = (await rows(context, "SELECT * FROM partner_center_connections"))[0]
    assert (stored["username"], stored["version"]) == ("ops@contoso.example", 1)
    async with context.database.connection() as conn:
        found = await connection_store.find_connection(conn)
    assert found
    # Whole secrets: three bytes alone come by chance in a few kilobytes of ciphertext.
    secrets = re.findall(r'"((?:at|rt)-[^"]+)"', connection.open_cache(context.access, found))
    assert len(secrets) == 2
    assert not any(secret.encode() in bytes(stored["sealed_cache"]) for secret in (*secrets, "secret"))
    assert await audited(context) == [
        ("partner_center.sign_in.begun", "success"),
        ("partner_center.sign_in.succeeded", "success"),
    ]
    finished = (await events_of(context, "referrals.audit.recorded.v1"))[1]
    assert finished["actor"]["id"] == 166
    assert finished["personal"]["email"] == "ops@contoso.example"
    assert (await rows(context, "SELECT state, account, sealed_flow FROM sign_ins")) == [
        {"state": "succeeded", "account": "ops@contoso.example", "sealed_flow": None}
    ]


async def test_a_sign_in_that_one_process_began_is_finished_by_another(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    begun = await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    await context.close()
    sandbox.decide(begun.code.user_code)
    other = make_context(some_settings(sandbox, fresh))
    await asyncio.sleep(1.05)  # the interval before which nobody may ask
    await sign_in.poll_due_sign_ins(other.access)
    assert (await rows(other, "SELECT state FROM sign_ins"))[0]["state"] == "succeeded"
    await other.close()


async def test_several_processes_poll_a_sign_in_once_per_interval(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(device_code_interval=60)  # which does not pass a second time while the five are at it
    await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    await sign_in.poll_due_sign_ins(context.access)
    assert sandbox.state()["token_calls"] == {}
    await rows(context, "UPDATE sign_ins SET next_poll_at = now() RETURNING 1")
    await asyncio.gather(*(sign_in.poll_due_sign_ins(context.access) for _ in range(5)))
    assert sandbox.state()["token_calls"] == {"device_code:authorization_pending": 1}


async def test_no_other_process_asks_while_the_answer_to_a_poll_is_slow(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    sandbox.turn(device_code_interval=0)
    begun = await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    sandbox.decide(begun.code.user_code)
    sandbox.turn(token_delay_seconds=1)
    slow = asyncio.create_task(sign_in.poll_due_sign_ins(context.access))
    await eventually(lambda: sandbox.state()["token_calls"])
    sandbox.turn(token_delay_seconds=0)
    other = make_context(some_settings(sandbox, fresh))
    await sign_in.poll_due_sign_ins(other.access)  # would hear that the code is used, and end the sign-in
    await slow
    assert (await rows(context, "SELECT state FROM sign_ins"))[0]["state"] == "succeeded"
    assert sandbox.state()["token_calls"] == {"device_code:issued": 1}
    await other.close()


async def test_the_account_of_another_tenant_is_refused_and_nothing_is_stored(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(account={"username": "guest@other.example", "tenant_id": "11111111-2222-4333-8444-555555555555"})
    await connect(context, sandbox)
    assert await rows(context, "SELECT * FROM partner_center_connections") == []
    refused = (await rows(context, "SELECT state, error_code, error FROM sign_ins"))[0]
    assert (refused["state"], refused["error_code"]) == ("failed", "wrong_tenant")
    assert "HUNTER_PARTNER_CENTER_TENANT_ID" in refused["error"]
    assert (await audited(context))[-1] == ("partner_center.sign_in.failed", "denied")


async def test_a_code_that_nobody_used_expires(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(device_code_expires_in=1)
    await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    await asyncio.sleep(1.1)
    await sign_in.poll_due_sign_ins(context.access)
    assert (await rows(context, "SELECT state FROM sign_ins"))[0]["state"] == "expired"
    assert sandbox.state()["token_calls"] == {}


async def test_a_sign_in_that_a_process_without_its_settings_polls_ends_and_says_so(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    sandbox.turn(device_code_interval=0)
    await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    other = make_context(some_settings(sandbox, fresh, enabled=False, client_id=None))
    await sign_in.poll_due_sign_ins(other.access)
    ended = (await rows(context, "SELECT state, error_code, error FROM sign_ins"))[0]
    assert (ended["state"], ended["error_code"]) == ("failed", "partner_center_not_configured")
    assert "HUNTER_PARTNER_CENTER_CLIENT_ID" in ended["error"]
    await other.close()


async def test_slow_down_is_remembered_for_the_next_process(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(slow_down_polls=1)
    await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    await asyncio.sleep(1.05)
    await sign_in.poll_due_sign_ins(context.access)
    assert (await rows(context, "SELECT interval_seconds FROM sign_ins"))[0]["interval_seconds"] == 6


async def test_a_refused_request_for_a_code_leaves_no_sign_in(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(identity_faults=[{"endpoint": "devicecode", "error": "unauthorized_client", "codes": [700016]}])
    with pytest.raises(SignInRefused):
        await sign_in.begin_sign_in(context.access, asked_by=ADMIN)
    assert await rows(context, "SELECT * FROM sign_ins") == []


async def test_32_needs_of_4_replicas_at_once_cost_one_renewal(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.turn(access_token_expires_in=3600, one_time_refresh_tokens=True)
    replicas = [make_context(some_settings(sandbox, fresh)) for _ in range(4)]
    credentials = await asyncio.gather(*(get_credential(replica.access) for replica in replicas for _ in range(32)))
    for replica in replicas:
        await replica.close()
    assert len({credential.token.access_token for credential in credentials}) == 1
    assert sandbox.state()["token_calls"]["refresh_token:issued"] == 1
    assert (await rows(context, "SELECT version FROM partner_center_connections"))[0]["version"] == 2


async def test_a_reset_that_races_a_renewal_stays_a_reset(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.turn(token_delay_seconds=1)
    renewing = asyncio.create_task(get_credential(context.access))
    await eventually(lambda: "refresh_token:issued" in sandbox.state()["token_calls"])
    async with context.database.transaction() as conn:
        assert await connection.reset_connection(conn, asked_by=ADMIN)
    await renewing
    assert await rows(context, "SELECT * FROM partner_center_connections") == []
    with pytest.raises(SignInRequired):
        await get_credential(context.access)


async def test_a_renewal_never_overwrites_a_sign_in_that_finished_meanwhile(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.turn(token_delay_seconds=1)
    renewing = asyncio.create_task(get_credential(context.access))
    await eventually(lambda: "refresh_token:issued" in sandbox.state()["token_calls"])
    bob = {"username": "bob@contoso.example", "object_id": "0b0b0b0b-0000-4000-8000-000000000001"}
    sandbox.turn(token_delay_seconds=0, account=bob)
    await connect(context, sandbox)
    await renewing
    assert (await rows(context, "SELECT username FROM partner_center_connections"))[0]["username"] == bob["username"]
    async with context.database.connection() as conn:
        stored = await connection_store.find_connection(conn)
    assert stored
    assert (
        context.access.microsoft.account_of(connection.open_cache(context.access, stored)).username == bob["username"]
    )


async def test_with_the_wrong_key_everything_says_so_and_nothing_is_overwritten(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    plain = await plain_cache(context, sandbox)
    await connect(context, sandbox)
    await rows(context, "UPDATE partner_center_connections SET refreshed_at = now() - interval '8 days' RETURNING 1")
    before = await rows(context, "SELECT * FROM partner_center_connections")
    other = make_context(some_settings(sandbox, fresh, token_cache_keys=another_key()))
    attempts: list[Callable[[], Awaitable[Any]]] = [
        lambda: get_credential(other.access),
        lambda: sign_in.begin_sign_in(other.access, asked_by=ADMIN),
        lambda: connection.rotate_key(other.access, asked_by=ADMIN),
        lambda: connection.keep_connection_alive(other.access),
        lambda: connection.import_cache(other.access, plain, asked_by=ADMIN),
    ]
    for attempt in attempts:
        with pytest.raises(TokenCacheKeyMismatch, match="HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS"):
            await attempt()
    assert (await run(other)).error_code == "TOKEN_CACHE_KEY_MISMATCH"
    assert await rows(context, "SELECT * FROM partner_center_connections") == before
    assert "refresh_token:issued" not in sandbox.state()["token_calls"]  # no one-time token was spent for nothing
    await other.close()


async def test_a_sign_in_that_ends_where_the_stored_one_does_not_open_overwrites_nothing(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    sandbox.turn(device_code_interval=0)
    await connect(context, sandbox)
    before = await rows(context, "SELECT * FROM partner_center_connections")
    key = another_key()
    both = f"{key},{some_settings(sandbox, fresh).token_cache_keys.get_secret_value()}"
    rotating, new = (make_context(some_settings(sandbox, fresh, token_cache_keys=keys)) for keys in (both, key))
    begun = await sign_in.begin_sign_in(rotating.access, asked_by=ADMIN)
    sandbox.decide(begun.code.user_code)
    await sign_in.poll_due_sign_ins(new.access)
    ended = (await rows(context, "SELECT state, error_code FROM sign_ins WHERE sign_in_id = $1", begun.sign_in_id))[0]
    assert ended == {"state": "failed", "error_code": "token_cache_key_mismatch"}
    assert await rows(context, "SELECT * FROM partner_center_connections") == before
    for opened in (rotating, new):
        await opened.close()


async def test_a_key_is_replaced_without_a_new_sign_in(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    await connect(context, sandbox)
    old = context.access
    key = another_key()
    both = f"{key},{some_settings(sandbox, fresh).token_cache_keys.get_secret_value()}"
    rotating = make_context(some_settings(sandbox, fresh, token_cache_keys=both))
    assert await connection.rotate_key(rotating.access, asked_by=ADMIN)
    assert not await connection.rotate_key(rotating.access, asked_by=ADMIN)
    new = make_context(some_settings(sandbox, fresh, token_cache_keys=key))
    assert (await get_credential(new.access)).account.username == "ops@contoso.example"
    with pytest.raises(TokenCacheKeyMismatch):
        await get_credential(old)
    await rotating.close()
    await new.close()


async def test_the_plain_cache_of_the_older_tool_is_taken_over_after_proof_that_it_works(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    plain = await plain_cache(context, sandbox)
    assert (await connection.import_cache(context.access, plain, asked_by=ADMIN)).username == "ops@contoso.example"
    assert (await audited(context))[-1] == ("partner_center.cache.imported", "success")
    assert (await get_credential(context.access)).token.access_token.startswith("at-")
    with pytest.raises(SignInRequired):
        await connection.import_cache(context.access, plain, asked_by=ADMIN)  # its one-time token is spent
    with pytest.raises(TokenCacheInvalid):
        await connection.import_cache(context.access, "{}", asked_by=ADMIN)


async def test_a_revoked_sign_in_is_told_once_and_asked_no_more(context: Context, sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.revoke()
    for _ in range(3):
        with pytest.raises(SignInRequired):
            await get_credential(context.access)
    assert sandbox.state()["token_calls"]["refresh_token:invalid_grant"] == 1
    assert len(await events_of(context, "referrals.sign_in.required.v1")) == 1
    await connect(context, sandbox)
    assert (await get_credential(context.access)).account.username == "ops@contoso.example"


async def test_a_renewal_that_is_throttled_leaves_the_sign_in_as_it_is(
    context: Context, sandbox: SandboxMicrosoft
) -> None:
    sandbox.turn(access_token_expires_in=200)
    await connect(context, sandbox)
    sandbox.turn(identity_faults=[{"endpoint": "token", "status": 429, "retry_after": "60"}])
    with pytest.raises(MicrosoftUnavailable):
        await get_credential(context.access)
    assert await events_of(context, "referrals.sign_in.required.v1") == []
    assert (await get_credential(context.access)).account.username == "ops@contoso.example"


async def test_an_idle_sign_in_is_renewed_once_a_week(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await connection.keep_connection_alive(context.access)
    assert "refresh_token:issued" not in sandbox.state()["token_calls"]
    await rows(context, "UPDATE partner_center_connections SET refreshed_at = now() - interval '8 days' RETURNING 1")
    await connection.keep_connection_alive(context.access)
    assert sandbox.state()["token_calls"]["refresh_token:issued"] == 1


async def test_a_sign_in_about_to_expire_is_told_once(context: Context, sandbox: SandboxMicrosoft) -> None:
    await connect(context, sandbox)
    await rows(context, "UPDATE partner_center_connections SET refreshed_at = now() - interval '75 days' RETURNING 1")
    sandbox.turn(
        identity_faults=[{"endpoint": "token", "status": 503, "error": "temporarily_unavailable", "times": 99}]
    )
    for _ in range(2):
        await connection.keep_connection_alive(context.access)
    told = await events_of(context, "referrals.sign_in.required.v1")
    assert len(told) == 1
    assert told[0]["status"] == "expiring"
    assert "expires about" in told[0]["reason"]


async def test_a_sign_in_that_nothing_can_renew_is_told_to_be_over(
    context: Context, sandbox: SandboxMicrosoft, fresh: FreshDatabase
) -> None:
    await connect(context, sandbox)
    await rows(context, "UPDATE partner_center_connections SET refreshed_at = now() - interval '90 days' RETURNING 1")
    switched_off = make_context(some_settings(sandbox, fresh, enabled=False, client_id=None))
    for _ in range(2):
        await connection.keep_connection_alive(switched_off.access)
    told = await events_of(context, "referrals.sign_in.required.v1")
    assert [(event["status"], "Sign in again" in event["reason"]) for event in told] == [("sign_in_required", True)]
    await switched_off.close()
