"""Our client of Microsoft's sign-in: real MSAL against the sandbox over TLS."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from services.referrals.domain.failures import (
    MicrosoftUnavailable,
    PartnerCenterNotConfigured,
    SignInRefused,
    SignInRequired,
    TokenCacheInvalid,
)
from services.referrals.microsoft import DeviceCode, Microsoft, Pending, SignedIn
from tests.support.microsoft import CLIENT_ID, SCOPE, TENANT, SandboxMicrosoft


@pytest.fixture
def microsoft(sandbox: SandboxMicrosoft) -> Microsoft:
    return a_client(sandbox)


def a_client(sandbox: SandboxMicrosoft) -> Microsoft:
    return Microsoft(authority=sandbox.authority, client_id=CLIENT_ID, scope=SCOPE, ca_file=sandbox.ca_file)


async def approved(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> SignedIn:
    code = await microsoft.begin_sign_in()
    sandbox.decide(code.user_code)
    answer = await microsoft.poll_sign_in(code.flow)
    assert isinstance(answer, SignedIn)
    return answer


async def test_another_process_can_go_on_with_a_sign_in_after_a_trip_through_the_database(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    code = await microsoft.begin_sign_in()
    flow = json.loads(json.dumps(code.flow))
    sandbox.decide(code.user_code)
    answer = await a_client(sandbox).poll_sign_in(flow)
    assert isinstance(answer, SignedIn)
    assert answer.account.tenant_id == TENANT


async def test_a_poll_does_not_stop_the_event_loop(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> None:
    code = await microsoft.begin_sign_in()
    sandbox.turn(token_delay_seconds=0.5)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)  # no pause: a machine that gives us little time still leaves room for thousands

    ticking = asyncio.create_task(tick())
    await microsoft.poll_sign_in(code.flow)
    ticking.cancel()
    assert ticks > 10


async def test_slow_down_makes_the_pace_slower(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> None:
    sandbox.turn(slow_down_polls=1)
    code = await microsoft.begin_sign_in()
    answer = await microsoft.poll_sign_in(code.flow)
    assert isinstance(answer, Pending)
    assert answer.interval_seconds == code.interval_seconds + 5
    assert answer.flow["interval"] == answer.interval_seconds


async def test_a_declined_code_says_so(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> None:
    code = await microsoft.begin_sign_in()
    sandbox.decide(code.user_code, "decline")
    with pytest.raises(SignInRefused, match="declined") as refused:
        await microsoft.poll_sign_in(code.flow)
    assert (refused.value.state, refused.value.error) == ("declined", "authorization_declined")


async def test_a_code_that_was_used_already_says_so(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> None:
    code = await microsoft.begin_sign_in()
    sandbox.decide(code.user_code)
    await microsoft.poll_sign_in(code.flow)
    with pytest.raises(SignInRefused, match="used already") as refused:
        await microsoft.poll_sign_in(code.flow)
    assert refused.value.error == "bad_verification_code"


async def test_an_expired_code_says_so(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> None:
    sandbox.turn(device_code_expires_in=0)
    code = await microsoft.begin_sign_in()
    with pytest.raises(SignInRefused, match="expired") as refused:
        await microsoft.poll_sign_in(code.flow)
    assert refused.value.state == "expired"


async def test_a_conditional_access_block_looks_pending_to_the_poller(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    sandbox.turn(conditional_access_block=True)
    code = await microsoft.begin_sign_in()
    assert "53003" in sandbox.decide(code.user_code)
    assert isinstance(await microsoft.poll_sign_in(code.flow), Pending)


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (7000218, "Allow public client flows"),
        (700016, "HUNTER_PARTNER_CENTER_CLIENT_ID"),
        (90002, "HUNTER_PARTNER_CENTER_TENANT_ID"),
        (65001, "administrator must grant"),
    ],
)
async def test_a_refused_request_for_a_code_names_the_cure(
    sandbox: SandboxMicrosoft, microsoft: Microsoft, code: int, cure: str
) -> None:
    fault = {"endpoint": "devicecode", "error": "invalid_client", "codes": [code], "description": f"AADSTS{code}: no."}
    sandbox.turn(identity_faults=[fault])
    with pytest.raises(SignInRefused, match=cure) as refused:
        await microsoft.begin_sign_in()
    assert f"AADSTS{code}" in refused.value.message


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"status": 503, "retry_after": "60"}])
async def test_a_passing_fault_is_no_refusal_and_does_not_block_what_follows(
    sandbox: SandboxMicrosoft, microsoft: Microsoft, fault: dict[str, Any]
) -> None:
    sandbox.turn(identity_faults=[{**fault, "endpoint": "devicecode"}])
    with pytest.raises(MicrosoftUnavailable, match=f"HTTP {fault['status']}"):
        await microsoft.begin_sign_in()
    code = await microsoft.begin_sign_in()
    sandbox.decide(code.user_code)
    sandbox.turn(identity_faults=[{**fault, "endpoint": "token"}])
    with pytest.raises(MicrosoftUnavailable):
        await microsoft.poll_sign_in(code.flow)
    signed_in = await microsoft.poll_sign_in(code.flow)
    assert isinstance(signed_in, SignedIn)
    sandbox.turn(identity_faults=[{**fault, "endpoint": "token"}])
    with pytest.raises(MicrosoftUnavailable):
        await microsoft.renew(signed_in.token_cache, force=True)
    assert (await microsoft.renew(signed_in.token_cache, force=True)).renewed_cache


async def test_a_temporary_error_in_the_body_is_no_refusal_either(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    signed_in = await approved(sandbox, microsoft)
    code = await microsoft.begin_sign_in()
    temporary = {"error": "temporarily_unavailable", "description": "AADSTS90033: Try again later."}
    sandbox.turn(identity_faults=[{**temporary, "endpoint": endpoint} for endpoint in ("devicecode", "token", "token")])
    for attempt in (
        microsoft.begin_sign_in(),
        microsoft.poll_sign_in(code.flow),
        microsoft.renew(signed_in.token_cache, force=True),
    ):
        with pytest.raises(MicrosoftUnavailable, match="AADSTS90033"):
            await attempt


async def test_a_retry_after_on_a_pending_code_does_not_hide_the_approval(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    code = await microsoft.begin_sign_in()
    pending = {"error": "authorization_pending", "codes": [70016], "retry_after": "60"}
    sandbox.turn(identity_faults=[{**pending, "endpoint": "token", "grant": "device_code"}])
    assert isinstance(await microsoft.poll_sign_in(code.flow), Pending)
    sandbox.decide(code.user_code)
    assert isinstance(await microsoft.poll_sign_in(code.flow), SignedIn)


@pytest.mark.parametrize("status", [200, 400, 404])
async def test_an_answer_that_is_no_json_is_an_outage_and_reaches_no_log(
    sandbox: SandboxMicrosoft, microsoft: Microsoft, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    signed_in = await approved(sandbox, microsoft)
    garbled = '{"access_token": "at-secret"'
    sandbox.turn(identity_faults=[{"endpoint": "token", "status": status, "text": garbled}])
    with pytest.raises(MicrosoftUnavailable):
        await microsoft.renew(signed_in.token_cache, force=True)
    assert "at-secret" not in caplog.text


async def test_a_sign_in_endpoint_that_stays_silent_is_given_up(
    sandbox: SandboxMicrosoft, microsoft: Microsoft, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in = await approved(sandbox, microsoft)
    monkeypatch.setattr("services.referrals.microsoft._REQUEST_SECONDS", (0.3, 0.3))
    sandbox.turn(token_delay_seconds=60)
    started = time.monotonic()
    with pytest.raises(MicrosoftUnavailable, match="Timeout"):
        await microsoft.renew(signed_in.token_cache, force=True)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("omitted", "words"),
    [(["client_info", "id_token"], "0 accounts"), (["refresh_token"], "no refresh token")],
)
async def test_an_answer_that_could_never_be_renewed_is_refused(
    sandbox: SandboxMicrosoft, microsoft: Microsoft, omitted: list[str], words: str
) -> None:
    sandbox.turn(omitted_fields=omitted)
    with pytest.raises(SignInRefused, match=words) as refused:
        await approved(sandbox, microsoft)
    assert refused.value.error == "incomplete_answer"


async def test_the_tenant_is_that_of_the_token_and_not_the_one_asked_for(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    foreign = "11111111-2222-4333-8444-555555555555"
    sandbox.turn(account={"username": "guest@other.example", "tenant_id": foreign})
    assert (await approved(sandbox, microsoft)).account.tenant_id == foreign


async def test_a_cached_token_is_served_without_a_call(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> None:
    signed_in = await approved(sandbox, microsoft)
    calls = sandbox.state()["requests"]
    token = microsoft.comfortable_token(signed_in.token_cache)
    assert token is not None
    assert token.access_token.startswith("at-")
    assert sandbox.state()["requests"] == calls


async def test_a_token_that_was_granted_under_another_scope_is_served_from_the_cache_too(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    sandbox.turn(granted_scope="https://api.partner.microsoft.com/user_impersonation openid profile")
    assert microsoft.comfortable_token((await approved(sandbox, microsoft)).token_cache) is not None
    sandbox.turn(granted_scope="https://graph.microsoft.com/User.Read")
    assert microsoft.comfortable_token((await approved(sandbox, microsoft)).token_cache) is None


async def test_a_token_about_to_expire_is_renewed_and_the_cache_changes(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    sandbox.turn(access_token_expires_in=200)
    signed_in = await approved(sandbox, microsoft)
    assert microsoft.comfortable_token(signed_in.token_cache) is None
    sandbox.turn(access_token_expires_in=3600)
    token = await microsoft.renew(signed_in.token_cache)
    assert token.renewed_cache is not None
    renewed = microsoft.comfortable_token(token.renewed_cache)
    assert renewed is not None
    assert renewed.access_token == token.access_token


async def test_an_aging_token_is_used_on_while_the_token_endpoint_is_down(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    sandbox.turn(refresh_in=0)
    signed_in = await approved(sandbox, microsoft)
    await asyncio.sleep(1.1)
    assert microsoft.comfortable_token(signed_in.token_cache) is None
    sandbox.turn(identity_faults=[{"endpoint": "token", "status": 503, "times": 5}])
    assert (await microsoft.renew(signed_in.token_cache)).access_token


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (50173, "changed password.*sign in again"),
        (700082, "not used for too long: sign in again"),
        (70043, "sign-in frequency policy.*sign in again"),
        (50076, "second factor: sign in again"),
        (53003, "Conditional Access policy.*excluded"),
        (99999, "Sign in again"),
    ],
)
@pytest.mark.parametrize(
    "kind", [{}, {"error": "interaction_required", "suberror": "basic_action", "claims": '{"access_token": {}}'}]
)
async def test_a_sign_in_that_microsoft_ended_needs_a_person_and_says_why(
    sandbox: SandboxMicrosoft, microsoft: Microsoft, code: int, cure: str, kind: dict[str, str]
) -> None:
    signed_in = await approved(sandbox, microsoft)
    fault = {**kind, "endpoint": "token", "codes": [code], "description": f"AADSTS{code}: Refused."}
    sandbox.turn(identity_faults=[fault])
    with pytest.raises(SignInRequired, match=f"{cure}.*AADSTS{code}"):
        await microsoft.renew(signed_in.token_cache, force=True)


async def test_when_microsoft_is_away_the_error_says_to_try_again(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    signed_in = await approved(sandbox, microsoft)
    nobody = Microsoft(
        authority=f"https://localhost:9/{TENANT}", client_id=CLIENT_ID, scope=SCOPE, ca_file=sandbox.ca_file
    )
    with pytest.raises(MicrosoftUnavailable):
        await nobody.begin_sign_in()
    with pytest.raises(MicrosoftUnavailable):
        await nobody.renew(signed_in.token_cache, force=True)


async def test_a_ca_bundle_in_the_environment_does_not_beat_our_trust(
    microsoft: Microsoft, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    assert isinstance(await microsoft.begin_sign_in(), DeviceCode)


async def test_a_certificate_that_is_not_trusted_is_named(sandbox: SandboxMicrosoft) -> None:
    distrustful = Microsoft(authority=sandbox.authority, client_id=CLIENT_ID, scope=SCOPE)
    with pytest.raises(MicrosoftUnavailable, match="HUNTER_PARTNER_CENTER_CA_FILE"):
        await distrustful.begin_sign_in()


@pytest.mark.parametrize(("client_id", "has_tenant"), [(None, True), (CLIENT_ID, False)])
async def test_without_an_application_or_a_tenant_nothing_is_asked(
    sandbox: SandboxMicrosoft, client_id: str | None, *, has_tenant: bool
) -> None:
    unconfigured = Microsoft(
        authority=sandbox.authority if has_tenant else None, client_id=client_id, scope=SCOPE, ca_file=sandbox.ca_file
    )
    with pytest.raises(PartnerCenterNotConfigured):
        await unconfigured.begin_sign_in()
    assert sandbox.state()["requests"] == {}


async def test_a_tenant_that_is_not_there_is_a_setting_to_correct_and_no_outage(
    sandbox: SandboxMicrosoft, microsoft: Microsoft
) -> None:
    token_cache = (await approved(sandbox, microsoft)).token_cache
    sandbox.turn(identity_faults=[{"endpoint": "discovery", "error": "invalid_tenant", "codes": [90002], "times": 2}])
    with pytest.raises(PartnerCenterNotConfigured, match="HUNTER_PARTNER_CENTER_TENANT_ID"):
        await microsoft.begin_sign_in()
    with pytest.raises(PartnerCenterNotConfigured, match="HUNTER_PARTNER_CENTER_TENANT_ID"):
        await microsoft.renew(token_cache, force=True)
    for status in (429, 503):
        sandbox.turn(identity_faults=[{"endpoint": "discovery", "status": status}])
        with pytest.raises(MicrosoftUnavailable):
            await microsoft.begin_sign_in()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "5",
        "{}",
        '{"Account": []}',
        '{"Account": {"a": "text"}}',
        '{"Account": {"a": {"home_account_id": 5}}}',
        '{"Account": {"a": {"home_account_id": "x.y"}}, "RefreshToken": 7}',
        '{"Account": {"a": {"home_account_id": "x.y"}}, "RefreshToken": {"b": {}}}',
    ],
)
async def test_what_is_no_token_cache_is_refused(microsoft: Microsoft, text: str) -> None:
    with pytest.raises(TokenCacheInvalid):
        microsoft.account_of(text)


async def test_the_cache_of_another_application_is_refused(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> None:
    token_cache = (await approved(sandbox, microsoft)).token_cache
    other = Microsoft(authority=sandbox.authority, client_id=TENANT, scope=SCOPE, ca_file=sandbox.ca_file)
    with pytest.raises(TokenCacheInvalid, match=f"no refresh token of application {TENANT}"):
        other.account_of(token_cache)


async def test_secrets_do_not_show_in_representations(sandbox: SandboxMicrosoft, microsoft: Microsoft) -> None:
    code = await microsoft.begin_sign_in()
    sandbox.decide(code.user_code)
    signed_in = await microsoft.poll_sign_in(code.flow)
    shown: Any = (code, signed_in, await microsoft.renew(signed_in.token_cache))  # type: ignore[union-attr]
    assert code.user_code not in repr(shown)
    assert not any(secret in repr(shown) for secret in ("at-", "rt-", code.flow["device_code"]))
