"""The routing table: where a path goes and under which terms."""

from __future__ import annotations

import pytest

from services.gateway.domain.refusals import UnknownArea
from services.gateway.domain.routing import AREAS, JSON_BODY, UPLOAD_BODY, find_route


@pytest.mark.parametrize(
    ("asked", "upstream", "sent"),
    [
        (b"/api/v1/auth/login", "auth", b"/api/v1/auth/login"),
        (b"/api/auth/login", "auth", b"/api/v1/auth/login"),
        (b"/api/V1/AUTH/login", "auth", b"/api/v1/auth/login"),
        (b"/api/referrals/sync", "referrals", b"/api/referrals/sync"),
        (b"/api/v1/Referrals/sync", "referrals", b"/api/referrals/sync"),
        (b"/api/Sponsorship/farmer/invitations/bulk/7", "invitations", b"/api/Sponsorship/farmer/invitations/bulk/7"),
        (b"/api/v1/sponsorship/codes", "invitations", b"/api/Sponsorship/codes"),
        (b"/api/SPONSORSHIP", "invitations", b"/api/Sponsorship"),
        (b"/api/audit/events", "audit", b"/api/v1/audit/events"),
        (b"/api/v1/audit/events", "audit", b"/api/v1/audit/events"),
        (b"/ref/AbC", "invitations", b"/ref/AbC"),
        (b"/callbacks/verimor", "invitations", b"/callbacks/verimor"),
        (b"/.well-known/jwks.json", "auth", b"/.well-known/jwks.json"),
    ],
)
def test_a_path_goes_to_its_service_in_one_spelling(asked: bytes, upstream: str, sent: bytes) -> None:
    route = find_route(asked)
    assert (route.upstream, route.path) == (upstream, sent)


def test_the_case_below_the_area_is_kept() -> None:
    assert find_route(b"/API/v1/SPONSORSHIP/Farmer/INVITE").path == b"/api/Sponsorship/Farmer/INVITE"


@pytest.mark.parametrize(
    "path",
    [b"/api/v2/auth/login", b"/api/authx/login", b"/api/", b"/api", b"/ref", b"/ref/", b"/callbacks", b"/x", b"/Ref/x"],
)
def test_an_unknown_area_names_the_areas(path: bytes) -> None:
    with pytest.raises(UnknownArea) as refusal:
        find_route(path)
    for area in AREAS:
        assert area.path.decode() in refusal.value.message


def test_only_listed_routes_are_public() -> None:
    public = [
        b"/api/v1/auth/login",
        b"/api/v1/auth/refresh",
        b"/api/v1/auth/request-password-reset",
        b"/api/v1/auth/reset-password",
        b"/api/v1/auth/cancel-password-reset",
        b"/ref/abc",
        b"/callbacks/twilio",
        b"/.well-known/jwks.json",
    ]
    closed = [
        b"/api/v1/auth/Login",
        b"/api/v1/auth/login/",
        b"/api/v1/auth/login/x",
        b"/api/v1/auth/me",
        b"/api/v1/auth/users",
        b"/api/v1/auth",
        b"/api/referrals",
        b"/api/Sponsorship/login",
        b"/api/v1/audit/events",
    ]
    assert all(find_route(path).terms.public for path in public)
    assert not any(find_route(path).terms.public for path in closed)


def test_only_uploads_may_be_large() -> None:
    assert find_route(b"/api/sponsorship/farmer/invitations/bulk").terms.max_body == UPLOAD_BODY
    assert find_route(b"/api/sponsorship/admin/farmer/invitations/bulk/excel").terms.max_body == UPLOAD_BODY
    assert find_route(b"/api/sponsorship/farmer/invite").terms.max_body == JSON_BODY
    assert find_route(b"/api/v1/auth/login").terms.max_body == JSON_BODY


def test_guessing_routes_have_limits_of_their_own() -> None:
    assert find_route(b"/api/auth/login").terms.limit == "sign_in"
    assert find_route(b"/api/auth/reset-password").terms.limit == "reset"
    assert find_route(b"/api/auth/request-password-reset").terms.limit == "reset"
