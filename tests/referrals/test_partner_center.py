"""Our client of the referrals API against the sandbox: patience, and where the token goes."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import groupby
from typing import Any

import httpx
import pytest

from services.referrals.domain.failures import (
    AccessDenied,
    NextLinkRefused,
    PartnerCenterThrottled,
    PartnerCenterUnavailable,
    QueryRefused,
    TokenRefused,
)
from services.referrals.microsoft import Microsoft, SignedIn
from services.referrals.partner_center import PartnerCenter, _problem_of
from tests.support.microsoft import CLIENT_ID, SCOPE, SandboxMicrosoft


@pytest.fixture
async def partner_center(sandbox: SandboxMicrosoft) -> AsyncIterator[PartnerCenter]:
    client = a_client(sandbox)
    yield client
    await client.close()


@pytest.fixture
async def token(sandbox: SandboxMicrosoft) -> str:
    microsoft = Microsoft(authority=sandbox.authority, client_id=CLIENT_ID, scope=SCOPE, ca_file=sandbox.ca_file)
    code = await microsoft.begin_sign_in()
    sandbox.decide(code.user_code)
    signed_in = await microsoft.poll_sign_in(code.flow)
    assert isinstance(signed_in, SignedIn)
    return (await microsoft.renew(signed_in.token_cache)).access_token


def a_client(sandbox: SandboxMicrosoft, **changes: Any) -> PartnerCenter:
    settings: dict[str, Any] = {"api_url": sandbox.url, "ca_file": sandbox.ca_file, "backoff_seconds": 0.01}
    return PartnerCenter(**settings | changes)


async def every_id(partner_center: PartnerCenter, token: str) -> list[str]:
    target: str | None = partner_center.first_target(ordered_by="createdDateTime asc")
    found = []
    while target is not None:
        page = await partner_center.get_page(target, token)
        found += [item["id"] for item in page.items]
        target = page.next_target
    return found


async def test_http_next_links_without_engagements_are_followed_over_https(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str
) -> None:
    found = await every_id(partner_center, token)
    assert len(found) == len(set(found)) == 250
    state = sandbox.state()
    assert state["pages"] == [1, 2, 3]
    assert state["authorization_hosts"] == {f"localhost:{sandbox.port}": 3}


@pytest.mark.parametrize(
    ("next_link", "knobs"),
    [
        ("lift", {"skip_token_honoured_on": "known_path"}),
        ("follow", {"skip_token_honoured_on": "given_path"}),
        ("lift", {"next_link": "complete"}),
    ],
)
async def test_either_way_of_going_on_can_be_chosen(
    sandbox: SandboxMicrosoft, token: str, next_link: str, knobs: dict[str, Any]
) -> None:
    sandbox.turn(**knobs)
    client = a_client(sandbox, next_link=next_link)
    assert len(await every_id(client, token)) == 250
    await client.close()


async def test_a_next_link_to_another_host_never_gets_the_token(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str
) -> None:
    # The other name leads to the same sandbox, which would count a token that came under it.
    sandbox.turn(next_link="foreign_host", foreign_host=f"127.0.0.1:{sandbox.port}")
    with pytest.raises(NextLinkRefused, match=r"127\.0\.0\.1"):
        await every_id(partner_center, token)
    assert list(sandbox.state()["authorization_hosts"]) == [f"localhost:{sandbox.port}"]


@pytest.mark.parametrize(
    "link",
    [
        "http://attacker.example/v1.0/referrals?$skiptoken=x",
        "https://localhost.attacker.example/v1.0/referrals?$skiptoken=x",
        "https://localhost@attacker.example/v1.0/referrals?$skiptoken=x",
        "https://token@localhost/v1.0/referrals?$skiptoken=x",
        "https://localhost:444444/v1.0/referrals?$skiptoken=x",
        "https://localhost:1/v1.0/referrals?$skiptoken=x",
        "https://[broken/v1.0/referrals?$skiptoken=x",
        "//attacker.example/v1.0/referrals?$skiptoken=x",
        "/v1.0/referrals?$skiptoken=x",
        "file:///etc/passwd?$skiptoken=x",
        "https://localhost/v1.0/referrals",
        5,
    ],
)
def test_a_next_link_that_is_not_on_our_host_is_refused(sandbox: SandboxMicrosoft, link: Any) -> None:
    with pytest.raises(NextLinkRefused):
        a_client(sandbox)._target_of(link)


def test_the_skiptoken_passes_through_untouched(sandbox: SandboxMicrosoft) -> None:
    client = a_client(sandbox)
    link = "http://LOCALHOST/v1.0/referrals?$skiptoken=a%2Bb%2f%3D%25&x=%C3%9C"
    assert client._target_of(link) == "/v1.0/engagements/referrals?$skiptoken=a%2Bb%2f%3D%25&x=%C3%9C"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "throttled"},
        {"kind": "throttled", "retry_after": "0"},
        {"kind": "throttled_sister_host"},
        {"kind": "throttled_sister_host", "retry_after": "0"},
        {"kind": "server_error", "status": 500},
        {"kind": "server_error", "status": 502},
        {"kind": "server_error", "status": 503, "retry_after": "0"},
        {"kind": "server_error", "status": 504},
        {"kind": "server_error", "status": 509},
        {"kind": "server_error", "status": 408},
        {"kind": "server_error", "status": 423},
        {"kind": "dropped_connection"},
    ],
)
async def test_a_passing_fault_costs_a_further_call_of_the_same_page(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str, fault: dict[str, Any]
) -> None:
    sandbox.turn(api_faults=[{**fault, "page": 2, "times": 2}])
    assert len(await every_id(partner_center, token)) == 250
    state = sandbox.state()
    assert state["pages"] == [1, 2, 3]
    assert sum(count for path, count in state["requests"].items() if "referrals" in path) == 5


@pytest.mark.parametrize(
    ("kind", "retry_after", "least"),
    [
        ("throttled", "1", 1.0),
        ("throttled_sister_host", "1", 1.0),
        ("server_error", "1", 1.0),
        ("throttled", None, 0.0),
    ],
)
async def test_retry_after_is_the_least_that_is_waited(
    sandbox: SandboxMicrosoft,
    partner_center: PartnerCenter,
    token: str,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    retry_after: str | None,
    least: float,
) -> None:
    caplog.set_level(logging.INFO)
    sandbox.turn(api_faults=[{"kind": kind, "retry_after": retry_after}])
    started = time.monotonic()
    await every_id(partner_center, token)
    assert time.monotonic() - started >= least
    waits = [float(wait) for wait in re.findall(r"partner_center_waits seconds=([0-9.]+)", caplog.text)]
    assert len(waits) == 1
    assert least <= waits[0] <= least + 0.1  # the jitter on top is that of the first attempt


async def test_retry_after_may_be_a_date(sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    sandbox.turn(api_faults=[{"kind": "throttled", "retry_after": moment}])
    with pytest.raises(PartnerCenterThrottled) as throttled:
        await every_id(partner_center, token)
    assert throttled.value.retry_after is not None
    assert 3500 < throttled.value.retry_after <= 3600


@pytest.mark.parametrize("retry_after", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_retry_after_beyond_reason_is_cut_to_a_day(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str, retry_after: str
) -> None:
    sandbox.turn(api_faults=[{"kind": "throttled", "retry_after": retry_after}])
    with pytest.raises(PartnerCenterThrottled) as throttled:
        await every_id(partner_center, token)
    assert throttled.value.retry_after == 86_400


@pytest.mark.parametrize("retry_after", ["soon", "-1", "Fri, 31 Dec 9999 23:59:59 -2300"])
async def test_a_retry_after_that_cannot_be_read_is_as_good_as_none(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str, retry_after: str
) -> None:
    sandbox.turn(api_faults=[{"kind": "throttled", "retry_after": retry_after}])
    assert len(await every_id(partner_center, token)) == 250


async def test_a_page_that_is_never_answered_is_asked_for_again(
    sandbox: SandboxMicrosoft, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.referrals.partner_center._TIMEOUT", httpx.Timeout(60, read=2))
    sandbox.turn(api_faults=[{"kind": "silence", "page": 2}])
    client = a_client(sandbox)
    assert len(await every_id(client, token)) == 250
    # On a busy machine a page that does come may be too late as well, and is then served twice.
    assert [page for page, _ in groupby(sandbox.state()["pages"])] == [1, 2, 3]
    assert sandbox.state()["knobs"]["api_faults"][0]["times"] == 0
    await client.close()


async def test_pages_may_be_smaller_than_asked(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str
) -> None:
    sandbox.turn(page_size=40)
    assert len(await every_id(partner_center, token)) == 250
    assert sandbox.state()["pages"] == [1, 2, 3, 4, 5, 6, 7]


async def test_a_fault_that_stays_ends_in_unavailable_with_microsofts_request_id(
    sandbox: SandboxMicrosoft, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.turn(api_faults=[{"kind": "server_error", "times": 99}])
    client = a_client(sandbox, attempts=3)
    with pytest.raises(
        PartnerCenterUnavailable, match=r"3 attempts: HTTP 503 serviceNotAvailable.*request-id [0-9a-f]"
    ):
        await every_id(client, token)
    assert sandbox.state()["requests"]["GET /v1.0/engagements/referrals"] == 3
    ids = re.findall(r"partner_center_request_failed status=503 request_id=(\S{36}) client_request_id=", caplog.text)
    assert len(set(ids)) == 3
    await client.close()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("unauthenticated", "expired"),
        ("mfa_required", "mfa"),
        ("claims_challenge", "claims"),
        ("insufficient_claims", "claims"),
    ],
)
async def test_a_refused_token_is_told_apart_by_what_cures_it(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str, fault: str, kind: str
) -> None:
    sandbox.turn(api_faults=[{"kind": fault}])
    with pytest.raises(TokenRefused) as refused:
        await every_id(partner_center, token)
    assert refused.value.kind == kind
    assert token not in refused.value.message


@pytest.mark.parametrize(
    ("content", "codes"),
    [
        (
            b'{"error": {"code": "x", "innererror": {"code": "y", "innerError": {"code": "900421"}}}}',
            ("x", "y", "900421"),
        ),
        (b'{"error": {"code": 900421, "message": null}}', ("900421",)),
        (b'{"error": {"code": "unAuthorized", "innerError": "text"}}', ("unAuthorized",)),
        (b'{"statusCode": 429, "message": "Rate limit is exceeded."}', ("429",)),
        (b'{"error": "invalid_token"}', ("invalid_token",)),
        (b"[]", ()),
        (b"<html>", ()),
    ],
)
def test_errors_of_every_shape_are_read(content: bytes, codes: tuple[str, ...]) -> None:
    assert _problem_of(httpx.Response(400, content=content)).codes == codes


async def test_a_missing_role_and_a_refused_query_are_final(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str
) -> None:
    sandbox.turn(api_faults=[{"kind": "forbidden"}])
    with pytest.raises(AccessDenied, match="Referral Admin"):
        await every_id(partner_center, token)
    with pytest.raises(QueryRefused, match="invalidRequest"):
        await partner_center.get_page("/v1.0/engagements/referrals?$filter=nonsense", token)


async def test_each_call_has_a_request_id_of_its_own(
    sandbox: SandboxMicrosoft, partner_center: PartnerCenter, token: str
) -> None:
    sandbox.turn(api_faults=[{"kind": "throttled", "times": 2}])
    await every_id(partner_center, token)
    assert sandbox.state()["client_request_ids"] == {"distinct": 5, "repeated": 0}


def test_the_address_may_be_the_host_alone_or_the_whole_path() -> None:
    for url in ("https://api.example", "https://api.example/", "https://api.example/v1.0/engagements/referrals"):
        target = PartnerCenter(api_url=url).first_target(
            filtered_by="updatedDateTime ge 2024-01-01T00:00:00Z", ordered_by="updatedDateTime asc"
        )
        assert target == (
            "/v1.0/engagements/referrals?$filter=updatedDateTime%20ge%202024-01-01T00%3A00%3A00Z"
            "&$orderby=updatedDateTime%20asc"
        )
