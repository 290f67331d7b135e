"""Whatever test makes a service record an act: docs/audit-events.md must know it, with its outcome and severity.

And an act that can't be recorded must not happen: `refused_evidence` sees to that the database takes no audit event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from shared.db import Connection
from shared.events.audit import AuditRecorded
from tests.support.databases import FreshDatabase
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


@asynccontextmanager
async def refused_evidence(fresh: FreshDatabase, *, but: str = "") -> AsyncIterator[None]:
    """Let the database take no audit event until the block ends, and check that it took nothing else (but there)."""
    owner = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": fresh.database.schema})
    try:
        await owner.execute(
            "ALTER TABLE outbox ADD CONSTRAINT no_evidence CHECK (routing_key NOT LIKE '%.audit.recorded.%') NOT VALID"
        )
        before = await _contents(owner, but)
        yield
        assert await _contents(owner, but) == before
        await owner.execute("ALTER TABLE outbox DROP CONSTRAINT no_evidence")
    finally:
        await owner.close()


async def _contents(owner: Connection, but: str) -> dict[str, str]:
    """Give a digest of every table but one."""
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    digest = "SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM {} AS t"
    return {name: await owner.fetchval(digest.format(name)) for (name,) in tables if name != but}
