"""Every event of docs/audit-events.md happens in a whole running system, and an auditor finds it as the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest

from local import stack
from tests.audit.test_documentation import documented
from tests.support.stacks import run_dir
from tests.system.matrix import audit, auth, invitations, queues, referrals
from tests.system.matrix.hub import ROOT, SHORTENED, Hub
from tests.system.matrix.page import Promise, promises
from tests.system.matrix.scenario import Claim, Scenario, Sign

pytestmark = pytest.mark.timeout(300)
# More than a minute. That the page knows each event of the code, and a scenario each of the page, is checked without.
slow = pytest.mark.slow

PROMISES: Final = promises()
SCENARIOS: Final[list[Scenario]] = [
    *auth.SCENARIOS,
    *invitations.SCENARIOS,
    *referrals.SCENARIOS,
    *queues.SCENARIOS,
    *audit.SCENARIOS,
    *auth.LAST,
]
PERSONAL: Final = re.compile(r"[\w.+-]+@[\w-]+\.\w+|(?<!\w)(?:\+?90|0)5\d{9}(?!\w)")


class Elsewhere(NamedTuple):
    """An event that a system that has just begun can't have."""

    claim: Claim
    test: str
    reason: str


ELSEWHERE: Final = (
    Elsewhere(
        Claim("audit.retention.pruned", "success", "warning"),
        "tests/audit/test_retention.py::test_whole_months_are_exported_verified_and_dropped",
        "only a month that is over is dropped, and the clock of the chain never runs backwards",
    ),
    Elsewhere(
        Claim("auth.password_reset.delivered", "failure", "notice"),
        "tests/auth/test_consumers.py::test_an_address_that_the_mail_server_refuses_is_in_the_audit_log",
        "the demo sends its letters into a log, which refuses none",
    ),
)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    home = run_dir("audit-matrix")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in SHORTENED.items():
            environment.setenv(name, value)
        try:
            running = Hub(stack.up(home), home)
            yield running
            running.close()
        finally:
            stack.down(home)


# --- what is said, before anything runs


def test_the_page_is_read_whole() -> None:
    assert PROMISES.keys() == documented()
    assert {promise.service for promise in PROMISES.values()} == {"auth", "referrals", "invitations", "audit"}
    assert all(promise.outcomes and promise.severities and promise.actors for promise in PROMISES.values())


@pytest.mark.parametrize("promise", PROMISES.values(), ids=lambda promise: promise.action)
def test_every_event_of_the_page_is_triggered_with_every_outcome_and_severity(promise: Promise) -> None:
    claims = {claim for scenario in SCENARIOS for claim in scenario.claims} | {each.claim for each in ELSEWHERE}
    made = [claim for claim in claims if claim.action == promise.action]
    assert {claim.outcome for claim in made} == set(promise.outcomes)
    assert {claim.severity for claim in made} == set(promise.severities)


def test_nothing_is_triggered_that_the_page_does_not_know() -> None:
    assert {claim.action for scenario in SCENARIOS for claim in scenario.claims} <= PROMISES.keys()


@pytest.mark.parametrize("event", ELSEWHERE, ids=lambda event: event.claim.action)
def test_what_a_new_system_cannot_have_is_triggered_by_a_test_of_its_own(event: Elsewhere) -> None:
    path, _, name = event.test.partition("::")
    text = (ROOT / path).read_text()
    assert f"def {name}(" in text
    assert f'"{event.claim.action}"' in text


# --- what happens


@slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_happens_is_found_in_the_audit_log(hub: Hub, scenario: Scenario) -> None:
    signs = list(scenario.happening(hub))
    assert {sign.claim for sign in signs} == scenario.claims
    for sign in signs:
        assert_record(hub.find(**sign.filters()), sign)


def assert_record(record: dict[str, Any], sign: Sign) -> None:
    """Compare a record with what happened and with what the page promises of it."""
    promise, shown = PROMISES[sign.claim.action], f"{sign.claim}: {record}"
    assert record["service"] == promise.service, shown
    assert (record["outcome"], record["severity"]) == sign.claim[1:], shown
    assert_actor(record, sign, promise)
    target = record["target"] and f"{record['target']['kind']}:{record['target']['id']}"
    assert target == sign.target, shown
    assert target is None or record["target"]["kind"] in promise.targets, shown
    assert record["outcome"] == "success" or record["reason"], f"nobody learns why: {shown}"
    if sign.claim.outcome == promise.outcomes[0]:
        assert promise.details <= record["details"].keys(), shown
    assert record["request_id"], shown
    if record["request_path"]:
        assert record["ip"], shown
        assert record["user_agent"], shown
    if record["action"].endswith("_on_behalf"):
        assert record["on_behalf_of"], shown


def assert_actor(record: dict[str, Any], sign: Sign, promise: Promise) -> None:
    """Whoever is signed in is named with id and roles; nobody else has either."""
    actor = record["actor"]
    assert actor["kind"] == sign.actor, record
    assert actor["kind"] in promise.actors, record
    is_person = actor["kind"] in {"user", "admin"}
    assert bool(actor["id"]) == is_person, record
    assert ("Admin" in actor["roles"]) == (actor["kind"] == "admin"), record


# --- what must never happen


@slow
def test_no_personal_data_lies_open_in_the_log(hub: Hub) -> None:
    """In an export, whatever was recorded as personal is sealed; so what shows there was recorded in a wrong place."""
    lines = list(hub.caller("auditor").call("GET", "/api/v1/audit/export").raise_for_status().iter_lines())
    assert len(lines) > 100
    assert [found.group() for line in lines for found in PERSONAL.finditer(line)] == []
