"""What happens, and the records that it must leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from tests.system.matrix.hub import Hub


class Claim(NamedTuple):
    """A kind of record: what was done, how it ended, how loud it is."""

    action: str
    outcome: str
    severity: str


@dataclass(frozen=True)
class Sign:
    """One record that must be found: by its request if it came from one, else by its target."""

    claim: Claim
    actor: str
    target: str | None
    request: httpx.Response | None

    def filters(self) -> dict[str, Any]:
        """Say how an auditor looks for it."""
        wanted: dict[str, Any] = {"action": self.claim.action, "outcome": self.claim.outcome}
        if self.request is not None:
            return wanted | {"request_id": self.request.headers["x-request-id"]}
        return wanted | ({"target": self.target} if self.target else {})


def sign(claim: str, actor: str, target: str | None = None, *, request: httpx.Response | None = None) -> Sign:
    """Describe a record: `sign("auth.logout success info", "user", "user:8", request=answer)`."""
    return Sign(Claim(*claim.split()), actor, target, request)


Happening = Callable[[Hub], Iterator[Sign]]


@dataclass(frozen=True)
class Scenario:
    """Something that happens, and every kind of record that it must leave."""

    happening: Happening
    claims: frozenset[Claim]

    @property
    def name(self) -> str:
        """Give its name for reports of tests."""
        return getattr(self.happening, "__name__", "scenario")


class Scenarios(list[Scenario]):
    """The scenarios of one service, in the order in which they happen."""

    def leaves(self, *claims: str) -> Callable[[Happening], Happening]:
        """Say which records a scenario leaves, so that the page can be compared with them before anything runs."""

        def add(happening: Happening) -> Happening:
            self.append(Scenario(happening, frozenset(Claim(*claim.split()) for claim in claims)))
            return happening

        return add
