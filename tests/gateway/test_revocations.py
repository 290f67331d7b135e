"""Revocations: genuine tokens that are refused, because what they say is no longer true."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway.domain.revocations import KEPT_SECONDS, Claims, Revocations, Standing


def a_token(**changes: Any) -> Claims:
    claims: dict[str, Any] = {
        "account_id": 1,
        "session_id": "s1",
        "roles": frozenset({"Admin"}),
        "grants": frozenset({6}),
        "issued_at": 990,
    }
    return Claims(**(claims | changes))


def test_a_revoked_session_is_refused_and_another_one_of_the_same_account_is_not() -> None:
    revocations = Revocations()
    revocations.revoke_session("s1", 1_000.0)
    assert revocations.refuse(a_token())
    assert revocations.refuse(a_token(issued_at=1_001)), "a session does not come back"
    assert not revocations.refuse(a_token(session_id="s2"))


def test_a_revoked_account_may_sign_in_again() -> None:
    revocations = Revocations()
    revocations.revoke_account(1, 1_000.4)
    assert revocations.refuse(a_token(issued_at=999))
    assert not revocations.refuse(a_token(issued_at=1_000)), "signed in within the same second"
    assert not revocations.refuse(a_token(account_id=2))


@pytest.mark.parametrize(
    ("roles", "grants", "refused"),
    [
        ({"Admin"}, {6}, False),
        ({"Admin", "Auditor"}, {6, 7}, False),
        ({"Admin"}, "all", False),
        ({"Auditor"}, {6}, True),
        (set(), {6}, True),
        ({"Admin"}, {7}, True),
        ({"Admin"}, set(), True),
    ],
)
def test_an_older_token_that_claims_too_much_is_refused(roles: set[str], grants: Any, *, refused: bool) -> None:
    revocations = Revocations()
    allowed = grants if grants == "all" else frozenset(grants)
    revocations.change_account(1, Standing(frozenset(roles), allowed, 1_000.0))
    assert revocations.refuse(a_token()) is refused
    assert not revocations.refuse(a_token(issued_at=1_001)), "a newer token says what is true"


def test_a_token_for_all_sponsors_is_refused_when_the_grant_is_narrowed() -> None:
    revocations = Revocations()
    revocations.change_account(1, Standing(frozenset({"Admin"}), frozenset({6}), 1_000.0))
    assert revocations.refuse(a_token(grants="all"))


def test_an_older_change_that_comes_late_changes_nothing() -> None:
    revocations = Revocations()
    revocations.change_account(1, Standing(frozenset({"Admin"}), "all", 1_000.0))
    revocations.change_account(1, Standing(frozenset(), frozenset(), 999.0))
    assert not revocations.refuse(a_token())


def test_revocations_are_forgotten_when_no_token_can_be_that_old() -> None:
    revocations = Revocations()
    revocations.revoke_session("s1", 1_000.0)
    revocations.revoke_account(1, 1_500.0)
    revocations.change_account(2, Standing(frozenset(), frozenset(), 1_000.0))
    revocations.forget(1_000.0 + KEPT_SECONDS)
    assert len(revocations) == 1
    assert revocations.refuse(a_token())


def test_a_flood_of_events_takes_bounded_memory_and_lets_nobody_in_who_was_put_out() -> None:
    revocations = Revocations(most=1_000)
    for number in range(10_000):
        revocations.revoke_session(f"s{number}", 1_000.0 + number / 100)
        revocations.change_account(number, Standing(frozenset({"Admin"}), frozenset(), 1_000.0 + number / 100))
        assert len(revocations) <= 1_000
    for number in range(10_000):
        assert revocations.refuse(a_token(session_id=f"s{number}", issued_at=1_000 + number // 100))
    assert not revocations.refuse(a_token(session_id="other", issued_at=1_101)), "what was issued since is let in"
    revocations.forget(2_000.0 + KEPT_SECONDS)
    assert not revocations
    assert not revocations.refuse(a_token(session_id="s1"))
