"""Whatever test makes a service record an act: docs/audit-events.md must know it, with its outcome and severity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from shared.db import Connection
from shared.events.audit import AuditRecorded
from tests.system.matrix.page import promises

_PROMISES = promises()


class Watch:
    """Looks at what passes through `shared.audit.record`."""

    def __init__(self, record: Callable[..., Awaitable[None]]) -> None:
        self._record = record
        self.unknown: list[str] = []

    async def record(self, conn: Connection, kind: type[AuditRecorded], *, action: str, **facts: Any) -> None:
        """Record, and note what the page does not promise."""
        outcome, severity = facts.get("outcome", "success"), facts.get("severity", "info")
        promise = _PROMISES.get(action)
        if promise is None or outcome not in promise.outcomes or severity not in promise.severities:
            self.unknown.append(f"{action} {outcome} {severity}")
        await self._record(conn, kind, action=action, **facts)
