"""The sandbox, seen as a client of Microsoft's sees it: real MSAL over real TLS, and HTTP for the referrals."""

from __future__ import annotations

import ssl
import stat
import uuid
from typing import Any

import httpx
import pytest

from services.referrals.microsoft import Microsoft, Pending, SignedIn
from tests.support.microsoft import CLIENT_ID, SCOPE, TENANT, SandboxMicrosoft

PATH = "/v1.0/engagements/referrals"


@pytest.fixture
async def token(sandbox: SandboxMicrosoft) -> str:
    signed_in = await sign_in(sandbox)
    return (await client_of(sandbox).renew(signed_in.token_cache)).access_token


def client_of(sandbox: SandboxMicrosoft) -> Microsoft:
    return Microsoft(authority=sandbox.authority, client_id=CLIENT_ID, scope=SCOPE, ca_file=sandbox.ca_file)


async def sign_in(sandbox: SandboxMicrosoft) -> SignedIn:
    microsoft = client_of(sandbox)
    code = await microsoft.begin_sign_in()
    sandbox.decide(code.user_code)
    answer = await microsoft.poll_sign_in(code.flow)
    assert isinstance(answer, SignedIn)
    return answer


def get(sandbox: SandboxMicrosoft, token: str, target: str = PATH, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "client-request-id": str(uuid.uuid4())}
    return sandbox.http.get(target, headers=headers, **more)


async def test_a_person_approves_on_the_page_and_msal_gets_its_tokens(sandbox: SandboxMicrosoft) -> None:
    microsoft = client_of(sandbox)
    code = await microsoft.begin_sign_in()
    assert isinstance(await microsoft.poll_sign_in(code.flow), Pending)
    assert code.user_code in sandbox.state()["waiting_user_codes"]
    assert "You have signed in" in sandbox.decide(code.user_code.lower())
    answer = await microsoft.poll_sign_in(code.flow)
    assert isinstance(answer, SignedIn)
    assert (answer.account.username, answer.account.tenant_id) == ("ops@contoso.example", TENANT)
    assert sandbox.state()["token_calls"] == {"device_code:authorization_pending": 1, "device_code:issued": 1}


async def test_the_automatic_mode_approves_after_a_poll(sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(auto_approve=True)
    microsoft = client_of(sandbox)
    code = await microsoft.begin_sign_in()
    answers = [await microsoft.poll_sign_in(code.flow) for _ in range(2)]
    assert [type(answer) for answer in answers] == [Pending, SignedIn]


def test_the_page_shows_a_code_without_running_it(sandbox: SandboxMicrosoft) -> None:
    page = sandbox.http.get("/devicelogin", params={"user_code": '"><script>alert(1)</script>'})
    assert "<script>" not in page.text
    assert "did not work" in sandbox.decide("WRONGCODE")


async def test_a_refresh_token_is_good_for_one_use_while_the_knob_says_so(sandbox: SandboxMicrosoft) -> None:
    signed_in = await sign_in(sandbox)
    microsoft = client_of(sandbox)
    await microsoft.renew(signed_in.token_cache, force=True)
    calls = sandbox.state()["token_calls"]
    with pytest.raises(Exception, match="redeemed already"):
        await microsoft.renew(signed_in.token_cache, force=True)
    assert calls["refresh_token:issued"] == 1
    sandbox.turn(one_time_refresh_tokens=False)
    again = await sign_in(sandbox)
    for _ in range(2):
        await microsoft.renew(again.token_cache, force=True)


def test_a_client_that_does_not_trust_the_sandbox_is_not_served(sandbox: SandboxMicrosoft) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(sandbox.url, verify=ssl.create_default_context(), trust_env=False, timeout=60)


def test_only_its_owner_may_read_the_keys(sandbox: SandboxMicrosoft) -> None:
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((sandbox.ca_file.parent / name).stat().st_mode) == 0o600


def test_250_referrals_come_in_three_pages_over_documented_next_links(sandbox: SandboxMicrosoft, token: str) -> None:
    first = get(sandbox, token).json()
    link = first["@odata.nextLink"]
    assert link.startswith(f"http://localhost:{sandbox.port}/v1.0/referrals?$skiptoken=")
    assert len(link) > 900
    assert "%" in link
    seen = [item["id"] for item in first["value"]]
    while link:
        page = get(sandbox, token, link.replace("http://", "https://")).json()
        seen += [item["id"] for item in page["value"]]
        link = page.get("@odata.nextLink")
    assert len(seen) == len(set(seen)) == 250
    assert sandbox.state()["pages"] == [1, 2, 3]


def test_the_same_referrals_come_every_time(sandbox: SandboxMicrosoft, token: str) -> None:
    before = get(sandbox, token).json()["value"]
    assert before == get(sandbox, token).json()["value"]
    assert [item["id"] for item in before] == [sandbox.referral_id(index) for index in range(100)]
    assert {len(item["updatedDateTime"]) for item in before} == {20, 27, 28}  # no, 6 and 7 fractional digits


def test_changes_are_found_by_filter_in_both_spellings(sandbox: SandboxMicrosoft, token: str) -> None:
    sandbox.change(change={sandbox.referral_id(7): {"status": "Closed", "substatus": "Lost"}})
    for value in ("2025-06-01T00:00:00Z", "'2025-06-01T00:00:00Z'"):
        page = get(sandbox, token, params={"$filter": f"updatedDateTime ge {value}", "$orderby": "updatedDateTime asc"})
        assert [item["id"] for item in page.json()["value"]] == [sandbox.referral_id(7)]


def test_filters_join_conditions_and_reach_into_objects(sandbox: SandboxMicrosoft, token: str) -> None:
    query = {"$filter": "status eq 'New' and customerProfile/address/country eq 'US'"}
    items = get(sandbox, token, params=query).json()["value"]
    assert items
    assert {(item["status"], item["customerProfile"]["address"]["country"]) for item in items} == {("New", "US")}


def test_a_descending_order_starts_with_the_last_change(sandbox: SandboxMicrosoft, token: str) -> None:
    page = get(sandbox, token, params={"$orderby": "updatedDateTime desc"}).json()
    assert page["value"][0]["id"] == sandbox.referral_id(249)
    following = get(sandbox, token, page["@odata.nextLink"].replace("http://", "https://")).json()
    assert following["value"][0]["id"] == sandbox.referral_id(149)


@pytest.mark.parametrize(
    ("knobs", "query"),
    [
        ({"date_filter": "refused"}, {"$filter": "updatedDateTime ge 2024-01-01T00:00:00Z"}),
        ({"date_filter": "quoted"}, {"$filter": "updatedDateTime ge 2024-01-01T00:00:00Z"}),
        ({"date_filter": "unquoted"}, {"$filter": "updatedDateTime ge '2024-01-01T00:00:00Z'"}),
        ({"order_by": "created_only"}, {"$orderby": "updatedDateTime asc"}),
        ({}, {"$filter": "nonsense"}),
        ({}, {"$skiptoken": "changed-on-the-way"}),
    ],
)
def test_a_query_that_it_does_not_take_is_an_invalid_request(
    sandbox: SandboxMicrosoft, token: str, knobs: dict[str, Any], query: dict[str, str]
) -> None:
    sandbox.turn(**knobs)
    answer = get(sandbox, token, params=query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalidRequest")


@pytest.mark.parametrize(
    ("fault", "status", "code", "headers"),
    [
        ({"kind": "throttled", "retry_after": "7"}, 429, "tooManyRequests", {"retry-after": "7"}),
        ({"kind": "throttled"}, 429, "tooManyRequests", {}),
        ({"kind": "server_error", "status": 504}, 504, "serviceNotAvailable", {}),
        ({"kind": "mfa_required"}, 401, "900421", {"www-authenticate": 'Bearer error="invalid_token"'}),
        ({"kind": "forbidden"}, 403, "accessDenied", {}),
    ],
)
def test_a_fault_comes_as_often_as_it_was_asked_for(
    sandbox: SandboxMicrosoft, token: str, fault: dict[str, Any], status: int, code: str, headers: dict[str, str]
) -> None:
    sandbox.turn(api_faults=[fault])
    answer = get(sandbox, token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert headers.items() <= dict(answer.headers).items()
    assert answer.headers["request-id"]
    assert ("retry-after" in answer.headers) == ("retry-after" in headers)
    assert get(sandbox, token).status_code == 200


def test_the_sister_hosts_error_has_its_other_shape(sandbox: SandboxMicrosoft, token: str) -> None:
    sandbox.turn(api_faults=[{"kind": "throttled_sister_host", "retry_after": "57"}])
    body = get(sandbox, token).json()
    assert body == {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}


def test_a_claims_challenge_names_what_a_person_must_prove(sandbox: SandboxMicrosoft, token: str) -> None:
    sandbox.turn(api_faults=[{"kind": "claims_challenge"}])
    challenge = get(sandbox, token).headers["www-authenticate"]
    assert 'error="insufficient_claims"' in challenge
    assert 'claims="' in challenge


def test_a_dropped_connection_breaks_inside_the_body(sandbox: SandboxMicrosoft, token: str) -> None:
    sandbox.turn(api_faults=[{"kind": "dropped_connection", "page": 1}])
    with pytest.raises(httpx.RemoteProtocolError):
        get(sandbox, token)
    assert sandbox.state()["pages"] == []


async def test_a_token_without_a_second_factor_is_refused(sandbox: SandboxMicrosoft) -> None:
    sandbox.turn(with_mfa=False)
    token = (await client_of(sandbox).renew((await sign_in(sandbox)).token_cache)).access_token
    assert get(sandbox, token).json()["error"]["code"] == "900421"


def test_a_call_without_a_request_id_or_a_known_token_is_refused(sandbox: SandboxMicrosoft, token: str) -> None:
    assert sandbox.http.get(PATH, headers={"Authorization": f"Bearer {token}"}).status_code == 400
    assert get(sandbox, "at-forged").status_code == 401
    sandbox.revoke()
    assert get(sandbox, token).status_code == 401


def test_malformed_and_unknown_items_come_where_they_were_asked_for(sandbox: SandboxMicrosoft, token: str) -> None:
    sandbox.turn(malformed_every=10)
    items = get(sandbox, token).json()["value"]
    assert items[0] is None
    assert items[10] == "not a referral"
    assert "id" not in items[20]
    sandbox.turn(malformed_every=0, unknown_every=2)
    item = get(sandbox, token).json()["value"][0]
    assert (item["status"], item["futureField"]) == ("Paused", {"a": [1]})


@pytest.mark.parametrize(("shape", "kind"), [("list", list), ("object", dict), ("empty_list", list)])
def test_ids_come_in_each_documented_shape(sandbox: SandboxMicrosoft, token: str, shape: str, kind: type[Any]) -> None:
    sandbox.turn(ids_shape=shape)
    assert {type(item["customerProfile"]["ids"]) for item in get(sandbox, token).json()["value"]} == {kind}


def test_an_unknown_knob_is_refused_and_changes_nothing(sandbox: SandboxMicrosoft) -> None:
    answer = sandbox.http.post("/_sandbox/knobs", json={"auto_approve": True, "no_such_knob": 1})
    assert answer.status_code == 422
    assert sandbox.state()["knobs"]["auto_approve"] is False


def test_referrals_can_be_added_and_removed_between_pages(sandbox: SandboxMicrosoft, token: str) -> None:
    added = sandbox.change(add=[{"name": "new"}], remove=[sandbox.referral_id(0)])["added"][0]
    assert get(sandbox, token, f"{PATH}/{added}").json()["name"] == "new"
    assert get(sandbox, token, f"{PATH}/{sandbox.referral_id(0)}").status_code == 404
    assert sandbox.state()["referrals"] == 250


async def test_there_can_be_100000_referrals(sandbox: SandboxMicrosoft) -> None:
    sandbox.reset(100_000)
    token = (await client_of(sandbox).renew((await sign_in(sandbox)).token_cache)).access_token
    assert get(sandbox, token, f"{PATH}/{sandbox.referral_id(99_999)}").status_code == 200
    assert get(sandbox, token, f"{PATH}/{sandbox.referral_id(100_000)}").status_code == 404
    assert sandbox.state()["referrals"] == 100_000
