"""One running sandbox: its knobs, its people and referrals, and what it has counted."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from sandbox.microsoft.identity import Identity
from sandbox.microsoft.knobs import Knobs
from sandbox.microsoft.referrals import Collection


@dataclass
class Counters:
    """What clients have sent, for tests to look at."""

    requests: Counter[str] = field(default_factory=Counter)
    token_calls: Counter[str] = field(default_factory=Counter)
    # Which host the bearer token was sent to: a foreign nextLink must never show up here.
    authorization_hosts: Counter[str] = field(default_factory=Counter)
    client_request_ids: Counter[str] = field(default_factory=Counter)
    pages: list[int] = field(default_factory=list)  # numbers of the pages served whole, in order
    queries: deque[str] = field(default_factory=lambda: deque(maxlen=50))

    def report(self) -> dict[str, Any]:
        """Give the counters as JSON; of the request ids only how many there were and how many came twice."""
        return {
            "requests": dict(self.requests),
            "token_calls": dict(self.token_calls),
            "authorization_hosts": dict(self.authorization_hosts),
            "client_request_ids": {
                "distinct": len(self.client_request_ids),
                "repeated": sum(count > 1 for count in self.client_request_ids.values()),
            },
            "pages": self.pages,
            "queries": list(self.queries),
        }


class Sandbox:
    """All that the routes share."""

    def __init__(self, *, referrals: int, auto_approve: bool) -> None:
        self._auto_approve = auto_approve
        self._referrals = referrals
        self.reset()

    def reset(self, referrals: int | None = None) -> None:
        """Back to the start, with another number of referrals if one is given."""
        self._referrals = self._referrals if referrals is None else referrals
        self.knobs = Knobs(auto_approve=self._auto_approve)
        self.identity = Identity(self.knobs)
        self.collection = Collection(self._referrals)
        self.counters = Counters()

    def turn(self, changes: dict[str, Any]) -> Knobs:
        """Set some knobs, or refuse all of them."""
        knobs = Knobs.model_validate(self.knobs.model_dump() | changes)
        self.knobs = self.identity.knobs = knobs
        return knobs
