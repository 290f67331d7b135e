from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from sandbox.microsoft.referrals import generate
from services.referrals.domain.failures import SignInRefused
from services.referrals.domain.referrals import (
    MalformedError,
    Referral,
    newest_of_each,
    parse_moment,
    parse_referral,
    read_items,
)
from services.referrals.domain.sign_ins import Account, Condition, StoredSignIn, refuse_foreign_tenant
from services.referrals.domain.syncs import MOST_ATTEMPTS, MOST_RESTARTS, Counts, Listing, Sync, SyncState

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def an_item(**changes: Any) -> dict[str, Any]:
    return generate(1) | changes


def a_referral(**changes: Any) -> Referral:
    return parse_referral(an_item(**changes))


def a_sync(**changes: Any) -> Sync:
    fresh = Sync(UUID(int=1), "incremental", SyncState.RUNNING, NOW, listing=Listing.FILTERED, account_id="a")
    return replace(fresh, **changes)


def test_the_promoted_columns_are_read_from_where_microsoft_puts_them() -> None:
    referral = a_referral()
    assert referral.referral_type == "Independent"
    assert (referral.status, referral.substatus) == ("Active", "Accepted")
    assert (referral.company_name, referral.domain, referral.country) == (
        "Northwind 000001",
        "customer-000001.example",
        "TR",
    )
    assert (referral.deal_value, referral.currency) == (Decimal("1234.5"), "USD")


def test_the_whole_object_is_kept() -> None:
    item = an_item(futureField={"deep": [1, {"er": "İ"}]})
    assert json.loads(parse_referral(item).raw) == item


@pytest.mark.parametrize("ids", [[{"profileType": "Duns", "id": "1"}], {}, [], None, "text"])
def test_ids_may_have_any_shape(ids: Any) -> None:
    item = an_item()
    item["customerProfile"]["ids"] = ids
    assert parse_referral(item).company_name == "Northwind 000001"


@pytest.mark.parametrize("profile", [None, [], "text", {"address": "text", "team": "text", "name": 5}])
def test_a_customer_profile_of_another_shape_leaves_the_columns_empty(profile: Any) -> None:
    referral = a_referral(customerProfile=profile)
    assert (referral.company_name, referral.domain, referral.country) == (None, None, None)


def test_unknown_values_of_enums_are_kept_as_they_are() -> None:
    referral = a_referral(status="Paused", substatus="Engaged", type="Referred", salesStage="100")
    assert (referral.status, referral.substatus, referral.referral_type) == ("Paused", "Engaged", "Referred")


def test_a_free_mail_address_says_nothing_about_the_company() -> None:
    item = an_item()
    item["customerProfile"]["team"] = [{"email": "a@GMAIL.com"}, {"email": None}, {"email": "b@Fabrikam.Example"}]
    assert parse_referral(item).domain == "fabrikam.example"


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2018-10-30T21:03:42.4579542Z", 457954),
        ("2018-10-30T21:03:42.9999999Z", 999999),
        ("2018-10-30T21:03:42.040469Z", 40469),
        ("2018-10-30T21:03:42Z", 0),
        ("2018-10-30T21:03:42", 0),
    ],
)
def test_times_of_any_precision_are_cut_and_never_rounded_up(text: str, microsecond: int) -> None:
    assert parse_moment(text) == datetime(2018, 10, 30, 21, 3, 42, microsecond, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        "",
        "yesterday",
        "0001-01-01T00:00:00+23:59",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.9999999Z",
    ],
)
def test_what_is_no_time_is_none(text: Any) -> None:
    assert parse_moment(text) is None


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "expected an object, found NoneType"),
        ("text", "expected an object, found str"),
        (an_item(id=None), "id is missing"),
        (an_item(id=4711), "id is missing or no plain text"),
        (an_item(id=""), "id is missing"),
        (an_item(id="x" * 201), "id is missing"),
        (an_item(id="a\x00b"), "id is missing"),
        (an_item(updatedDateTime="yesterday"), "updatedDateTime is missing or no time"),
        (an_item(name="a NUL \x00 inside"), "NUL character"),
        (an_item(name="half of a \ud83d"), "cannot be stored: .*surrogates"),
        (an_item(details={"dealValue": 2**64}), "cannot be stored: Integer exceeds"),
        (an_item(status="x" * 201), "a status is longer than 200"),
        (an_item(substatus="x" * 201), "a status is longer than 200"),
        (an_item(statusReason="x" * 8_001), "status_reason is longer than 8000"),
        (an_item(customerProfile={"name": "x" * 8_001}), "company_name is longer than 8000"),
    ],
)
def test_a_malformed_item_is_refused_with_the_reason(item: Any, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        parse_referral(item)


def test_a_backslash_before_u0000_is_text_and_no_nul() -> None:
    assert a_referral(name=r"C:\u0000").name == r"C:\u0000"


@pytest.mark.parametrize(
    ("kind", "qualification", "inviter", "category"),
    [
        ("Independent", "Direct", "msft", "marketplace_lead"),
        ("Independent", "Direct", None, "marketplace_lead"),
        ("Independent", "SalesQualified", "msft", "qualified_lead"),
        ("Independent", "MarketingQualified", "msft", "qualified_lead"),
        ("Shared", "SalesQualified", "another-partner", "co_sell"),
        ("Independent", "None", "another-partner", "co_sell"),
        ("Shared", "Direct", "msft", None),
        ("Referred", "SalesQualified", "msft", None),
    ],
)
def test_the_category_is_derived_as_microsoft_defines_it(
    kind: str, qualification: str, inviter: str | None, category: str | None
) -> None:
    referral = a_referral(
        type=kind, qualification=qualification, inviteContext={"invitedBy": {"organizationId": inviter}}
    )
    assert referral.category == category


@pytest.mark.parametrize("value", [[], ["Independent"], {}, {"value": "Shared"}])
def test_what_the_category_stands_on_may_have_any_shape(value: Any) -> None:
    for odd in (
        {"type": value, "qualification": "Direct"},
        {"type": "Independent", "qualification": value},
        {"type": "Independent", "qualification": "Direct", "inviteContext": {"invitedBy": {"organizationId": value}}},
    ):
        assert a_referral(**odd).category is None


def test_an_item_that_no_encoder_takes_is_set_aside_with_its_id() -> None:
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    referrals, (rejected,) = read_items([an_item(id="deep", details={"notes": deep}), an_item(id="plain")])
    assert [referral.referral_id for referral in referrals] == ["plain"]
    assert (rejected.referral_id, json.loads(rejected.raw)) == ("deep", {"id": "deep"})


def test_the_same_content_has_the_same_digest_whatever_the_order_of_its_keys() -> None:
    item = an_item()
    assert parse_referral(item).digest == parse_referral(dict(reversed(item.items()))).digest
    assert parse_referral(item).digest != a_referral(name="another").digest


def test_of_a_referral_that_comes_twice_the_newer_state_counts() -> None:
    older = a_referral(updatedDateTime="2024-01-01T00:00:00Z", status="New")
    newer = a_referral(updatedDateTime="2024-01-02T00:00:00Z", status="Closed")
    other = parse_referral(generate(0))
    assert newest_of_each([newer, other, older]) == [other, newer]


def test_an_item_as_the_documentation_lists_it_lacks_much_and_is_read() -> None:
    item = an_item(updatedDateTime="2018-10-30T21:03:42.4579542Z")
    for absent in ("name", "eTag", "direction", "registrations", "team", "inviteContext", "trackingInfo"):
        item.pop(absent, None)
    del item["details"]["dealValue"]
    referral = parse_referral(item)
    assert (referral.name, referral.direction, referral.deal_value) == (None, None, None)
    assert referral.company_name == "Northwind 000001"


def test_each_listing_falls_back_to_a_simpler_one_until_there_is_none() -> None:
    sync = a_sync()
    listings = []
    while sync is not None:
        listings.append(sync.listing)
        sync = sync.fall_back()  # type: ignore[assignment]
    assert listings == [Listing.FILTERED, Listing.DESCENDING, Listing.EVERYTHING]


def test_a_resumed_listing_whose_continuation_expired_starts_again_but_not_for_ever() -> None:
    sync: Sync | None = a_sync(next_target="/page/3")
    for _ in range(MOST_RESTARTS):
        assert sync is not None
        sync = sync.fall_back()
        assert sync is not None
        assert (sync.listing, sync.next_target) == (Listing.FILTERED, None)
        sync = replace(sync, next_target="/page/3")
    assert sync is not None
    assert sync.fall_back() is None


def test_turning_a_page_adds_up_and_forgets_failed_attempts() -> None:
    sync = a_sync(attempts=3, counts=Counts(100, 90, 5, 4, 1), pages=1)
    turned = sync.turn_page(Counts(50, 50, 0, 0, 0), newest=a_referral(), next_target="/next")
    assert turned.counts == Counts(150, 140, 5, 4, 1)
    assert (turned.pages, turned.attempts, turned.next_target) == (2, 0, "/next")
    assert turned.newest_raw == a_referral().updated_raw


def test_the_watermark_never_goes_back() -> None:
    newest = a_referral(updatedDateTime="2024-06-01T00:00:00Z")
    older = a_referral(updatedDateTime="2024-05-01T00:00:00Z")
    sync = a_sync().turn_page(Counts(), newest=newest, next_target=None)
    assert sync.turn_page(Counts(), newest=older, next_target=None).newest_raw == newest.updated_raw
    assert sync.turn_page(Counts(), newest=None, next_target=None).newest_raw == newest.updated_raw


def test_a_page_is_tried_so_often_and_no_oftener() -> None:
    sync = a_sync(state=SyncState.QUEUED)
    for _ in range(MOST_ATTEMPTS):
        assert not sync.is_worn_out
        sync = sync.take_up(NOW)
    assert sync.is_worn_out
    assert sync.started_at == NOW


def test_a_descending_listing_ends_after_a_page_that_is_all_older() -> None:
    referral = a_referral(updatedDateTime="2024-05-01T00:00:00Z")
    older, younger = referral.updated_at + timedelta(days=1), referral.updated_at - timedelta(days=1)
    assert a_sync(listing=Listing.DESCENDING, since=older).is_done_after([referral], "/next")
    assert not a_sync(listing=Listing.DESCENDING, since=younger).is_done_after([referral], "/next")
    assert not a_sync(listing=Listing.DESCENDING, since=older).is_done_after([], "/next")
    assert not a_sync(listing=Listing.FILTERED, since=older).is_done_after([referral], "/next")
    assert a_sync(listing=Listing.FILTERED).is_done_after([referral], None)


def test_only_an_open_task_is_open() -> None:
    assert {state for state in SyncState if state.is_open} == {SyncState.QUEUED, SyncState.RUNNING}


def a_stored_sign_in(**changes: Any) -> StoredSignIn:
    fresh = StoredSignIn(
        account=Account("oid.tid", "ops@contoso.example", "tid"),
        sealed_cache=b"",
        version=1,
        connected_at=NOW,
        refreshed_at=NOW,
        token_expires_at=NOW,
        refused_because=None,
        reported=Condition.HEALTHY,
    )
    return replace(fresh, **changes)


@pytest.mark.parametrize(
    ("days", "condition"),
    [(0, Condition.HEALTHY), (68, Condition.HEALTHY), (69, Condition.EXPIRING), (90, Condition.SIGN_IN_REQUIRED)],
)
def test_an_idle_sign_in_expires_after_90_days_and_warns_three_weeks_before(days: int, condition: Condition) -> None:
    assert a_stored_sign_in().condition(NOW + timedelta(days=days)) is condition


def test_a_refused_sign_in_needs_a_person_however_young_it_is() -> None:
    assert a_stored_sign_in(refused_because="revoked").condition(NOW) is Condition.SIGN_IN_REQUIRED


@pytest.mark.parametrize(
    ("days", "refused_because", "complaint"),
    [
        (0, None, None),
        (69, None, "The sign-in at Partner Center expires about 2026-06-02. Sign in again before."),
        (90, None, "The sign-in at Partner Center expired about 2026-06-02. Sign in again."),
        (90, "revoked", "revoked"),
    ],
)
def test_what_is_wrong_with_a_sign_in_comes_with_its_cure(
    days: int, refused_because: str | None, complaint: str | None
) -> None:
    stored = a_stored_sign_in(refused_because=refused_because)
    assert stored.complaint(NOW + timedelta(days=days)) == complaint


def test_an_account_of_another_tenant_is_refused_with_both_tenants_named() -> None:
    refuse_foreign_tenant(Account("a", "ops@contoso.example", "3F1C9A52"), "3f1c9a52")
    with pytest.raises(SignInRefused, match=r"belongs to tenant other.* set up for ours") as refused:
        refuse_foreign_tenant(Account("a", "ops@contoso.example", "other"), "ours")
    assert refused.value.error == "wrong_tenant"


def test_secrets_do_not_show_in_representations() -> None:
    assert "sealed_cache" not in repr(a_stored_sign_in())
