"""The account that must balance whatever was killed or replaced: what was accepted has happened, once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import httpx

from local.accounts import SPONSOR_ID
from local.compose import Compose
from local.environment import STORING
from local.tour.guide import Guide
from local.tour.spreadsheets import valid_rows
from local.tour.uploading import ENDED, Before, accept_upload, check_effects

PATIENCE_SECONDS: Final = 300
NEW_CODES: Final = "/api/Sponsorship/admin/codes"
WAITING: Final = "SELECT count(*) FROM outbox"


@dataclass
class Upload:
    """A bulk job that was accepted, and how things stood before."""

    guide: Guide
    compose: Compose
    rows: int
    before: Before
    where: str

    @classmethod
    def accept(cls, guide: Guide, compose: Compose, rows: int, *, first: int) -> Upload:
        """Upload so many rows as the sponsor, who gets as many codes before; the job goes on by itself."""
        for name in ("admin", "sponsor"):
            guide.forget(name)  # signed in anew: a token lives for ten minutes, these tests for longer
        new_codes = {"sponsorId": SPONSOR_ID, "tier": "S", "count": rows}
        guide.caller("admin").call("POST", NEW_CODES, json=new_codes).raise_for_status()
        before = Before.look(guide)
        return cls(guide, compose, rows, before, accept_upload(guide, valid_rows(rows, first=first), name="upload"))

    def look(self) -> dict[str, Any] | None:
        """See how far it is; nothing where nobody answers at the moment."""
        try:
            answer = self.guide.caller("sponsor").call("GET", self.where)
        except httpx.TransportError:
            return None
        data: dict[str, Any] | None = answer.json().get("data") if answer.is_success else None
        return data

    def wait_until_begun(self) -> None:
        """Wait until some of its rows are processed."""
        self.guide.wait_for("the beginning of the job", lambda: self.processed() > 0, PATIENCE_SECONDS)

    def processed(self) -> int:
        """Count its processed rows, as far as one can tell."""
        data = self.look()
        return int(data["processedCount"]) if data else 0

    def check(self) -> None:
        """Wait for its end, then compare: each row one message and one code; nothing is left over anywhere."""

        def ended() -> dict[str, Any] | None:
            data = self.look()
            return data if data and data["status"] in ENDED else None

        data = self.guide.wait_for(f"the end of {self.where}", ended, PATIENCE_SECONDS)
        self.guide.check("how the job ended", [data["status"], data["successCount"]], ["Completed", self.rows])
        check_effects(self.guide, self.before, self.rows)
        self.guide.wait_for("empty outboxes", lambda: not any(self.compose.sql(each, WAITING) for each in STORING))
        self.guide.check("dead letters", self._dead_letters(), [])

    def _dead_letters(self) -> list[str]:
        command = ["rabbitmqctl", "-q", "list_queues", "name", "messages", "--formatter=json"]
        queues = json.loads(self.compose.run("exec", "-T", "rabbitmq", *command))
        return [queue["name"] for queue in queues if queue["name"].endswith(".dead") and queue["messages"]]


def is_healthy(compose: Compose, role: str) -> bool:
    """Tell whether every container of a role says that it is ready."""
    states = compose.run("ps", "--all", "--format", "{{.Health}}", role).split()
    return bool(states) and set(states) == {"healthy"}
