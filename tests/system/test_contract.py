"""Every route of the gateway, called with what its description allows and with what it forbids (schemathesis).

Nothing may answer 500, and each answer must be one that the description names: its status, media type, body, headers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from schemathesis import Case, HookContext
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.engine import events, from_schema

from local.accounts import ADMIN_ID, SPONSOR_ID
from local.tour.guide import Guide
from local.tour.inviting import OWN, invite_on_behalf
from local.tour.partner_center import sync_referrals
from local.tour.spreadsheets import CONTENT_TYPE, make_list, valid_rows
from local.tour.system import LocalSystem
from local.tour.telling import Printer
from tests.system.conftest import ALSO_AN_ID, People

SEED: Final = 1
# For each caller, so many routes at least must have been called with success: refusals alone prove little.
CALLERS: Final = {"admin": 35, "sponsor": 14, "nobody": 2}
DEEP_SECONDS: Final = 300
# Without a token, 1,900 malformed calls would show the same 401, and a sponsor's show much of what an admin's show: the
# short runs leave them out, the long ones do not. test_doors.py asks each route once.
NO_PROBES: Final = {"phases": {"coverage": {"enabled": False}}}
# What would end the run itself, and why.
LEFT_OUT: Final = {
    "POST /api/v1/auth/logout": "ends the session that the run works with",
    "POST /api/v1/auth/logout-all": "ends every session of the account that the run works with",
}
# Accounts that no call may disable, strip of their roles or sign out: the run works with them.
UNTOUCHED: Final = frozenset({ADMIN_ID, SPONSOR_ID})
# Checks that do not fit on purpose, and why.
UNFIT: Final[dict[str, str]] = {
    "positive_data_acceptance": "phone numbers, passwords, tokens and stocks obey rules that JSON Schema cannot say",
}
# Schemathesis' own list, and 431: what stands in a query may be longer than the gateway reads.
REFUSALS: Final = {"expected-statuses": [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, 431, "5xx"]}


@dataclass
class Outcome:
    """What a run saw."""

    called: Counter[str] = field(default_factory=Counter)
    succeeded: set[str] = field(default_factory=set)
    problems: set[str] = field(default_factory=set)

    def told(self) -> str:
        """Tell all that is wrong, each once."""
        return "\n\n".join(sorted(self.problems))

    def note(self, event: object) -> None:
        """Take in what the engine tells."""
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.problems.add(str(event))
        if not isinstance(event, events.ScenarioFinished):
            return
        recorder = event.recorder
        for case_id, interaction in recorder.interactions.items():
            label = recorder.cases[case_id].value.operation.label
            self.called[label] += 1
            if interaction.response is not None and interaction.response.status_code < 300:
                self.succeeded.add(label)
        for check in (check for checks in recorder.checks.values() for check in checks):
            if check.failure_info is not None:
                failure = check.failure_info
                self.problems.add(f"{check.name}: {failure.failure.message}\n{failure.code_sample}")


@pytest.fixture(scope="module")
def things(system: dict[str, Any], people: People) -> Iterator[dict[str, list[str | int]]]:
    """Things that are really there, by the name of the path parameter that asks for one."""
    del people  # signed in before anybody else does
    guide = Guide(system, LocalSystem(system, Path()), Printer())
    with closing(guide):
        yield _make_things(guide)


def _make_things(guide: Guide) -> dict[str, list[str | int]]:
    invite_on_behalf(guide)
    sync_referrals(guide)
    invitations: list[str | int] = guide.results["invitations"]
    links = [_get(guide, f"/api/Sponsorship/farmer/invitations/{number}")["invitationLink"] for number in invitations]
    return {
        "user_id": [7, 8],
        "job_id": [_upload(guide)],
        "invitation_id": invitations,
        "token": [link.rpartition("/")[2] for link in links],
        "task_id": [sync["task_id"] for sync in _get(guide, "/api/referrals/sync")["items"]],
        "referral_id": [referral["referral_id"] for referral in _get(guide, "/api/referrals?limit=5")["items"]],
        "event_id": [event["id"] for event in _get(guide, "/api/v1/audit/events?limit=5")["items"]],
    }


def _get(guide: Guide, path: str) -> dict[str, Any]:
    found: dict[str, Any] = guide.caller("admin").call("GET", path).raise_for_status().json()
    return found


def _upload(guide: Guide) -> int:
    file = {"excelFile": ("davetler.xlsx", make_list(valid_rows(5, first=1)), CONTENT_TYPE)}
    job_id: int = guide.caller("sponsor").call("POST", OWN, files=file).raise_for_status().json()["data"]["jobId"]
    guide.wait_for("the end of the upload", lambda: _get(guide, f"{OWN}/{job_id}")["data"]["completedDate"])
    return job_id


def _configuration(token: str | None, things: dict[str, list[str | int]], **extent: Any) -> SchemathesisConfig:
    allow_and_refuse = {name: {"enabled": False} for name in ("unsupported_method", "allow_header_conformance")}
    configuration: dict[str, Any] = {
        "seed": SEED,
        "max-stream-events": 3,
        "request-timeout": 30,
        "continue-on-failure": True,
        "generation": {"deterministic": True, "max-examples": 5, "no-shrink": True},
        "checks": {name: {"enabled": False} for name in UNFIT} | {"negative_data_rejection": REFUSALS},
        "operations": [
            *({"include-name": name, "enabled": False} for name in LEFT_OUT),
            {"include-path": sorted(ALSO_AN_ID), "checks": allow_and_refuse},
        ],
        "dictionaries": {name: {"values": values} for name, values in things.items()},
        "parameters": {f"path.{name}": {"dictionary": name, "probability": 0.5} for name in things},
        **extent,
    }
    if token is not None:
        configuration["auth"] = {"openapi": {"accessToken": {"bearer": token}}}
    return SchemathesisConfig.from_dict(configuration)


def _spares_the_callers(_: HookContext, case: Case[Any]) -> bool:
    try:
        number = float(str(case.path_parameters.get("user_id")))
    except ValueError:
        return True
    return number not in UNTOUCHED


def _run(system: dict[str, Any], config: SchemathesisConfig) -> tuple[set[str], Outcome]:
    schema = schemathesis.openapi.from_url(f"{system['gateway_url']}/openapi.json", config=config)
    schema.hooks.register_hook_with_name(_spares_the_callers, "filter_case")
    outcome = Outcome()
    for event in from_schema(schema).execute():
        outcome.note(event)
    labels = {result.ok().label for result in schema.get_all_operations() if isinstance(result, Ok)}
    return labels - set(LEFT_OUT), outcome


@pytest.mark.timeout(500)
@pytest.mark.parametrize("caller", CALLERS)
def test_every_route_answers_as_its_description_says(
    caller: str, system: dict[str, Any], people: People, things: dict[str, list[str | int]]
) -> None:
    token = None if caller == "nobody" else people.token(caller)

    routes, outcome = _run(system, _configuration(token, things, **({} if caller == "admin" else NO_PROBES)))

    assert not outcome.problems, outcome.told()
    assert set(outcome.called) >= routes
    assert len(outcome.succeeded) >= CALLERS[caller]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("caller", CALLERS)
def test_every_route_answers_as_its_description_says_for_minutes(
    caller: str, system: dict[str, Any], people: People, things: dict[str, list[str | int]]
) -> None:
    token = None if caller == "nobody" else people.token(caller)

    _, outcome = _run(system, _configuration(token, things, **{"max-time": DEEP_SECONDS}))

    assert not outcome.problems, outcome.told()
