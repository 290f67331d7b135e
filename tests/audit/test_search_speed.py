"""However long the log, a page is read from an index: no filter and no page makes Postgres look at every record."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import combinations
from typing import Any

import asyncpg
import pytest

from services.audit import store
from services.audit.context import AuditContext
from services.audit.domain.filters import EventFilter, Position
from shared.db import Connection
from tests.support.databases import FreshDatabase

# A log as it grows: four months, most of it one service and one outcome, few records about any one thing; the service,
# who and what of a record have nothing to do with each other, as far as SQL can throw dice that fall alike each time.
FILL = """
INSERT INTO records
SELECT n, int8send(n), int8send(n), convert_to('{"n":' || n || ',"pad":"' || repeat('x', 400) || '"}', 'UTF8'),
       gen_random_uuid(), (ARRAY['invitations', 'invitations', 'invitations', 'auth', 'referrals'])[1 + die(n, 1, 5)],
       clock, clock, CASE WHEN die(n, 2, 10) > 0 THEN die(n, 3, 1000) END, 'action.' || die(n, 4, 40),
       'invitation:' || die(n, 5, 50000),
       CASE WHEN die(n, 6, 2000) = 0 THEN 'denied' WHEN die(n, 6, 50) = 0 THEN 'failure' ELSE 'success' END, 'info',
       'request-' || n / 5, CASE WHEN die(n, 7, 4) = 0 THEN die(n, 8, 300) END
FROM generate_series($1::bigint, $2::bigint) AS n,
     LATERAL (SELECT date_trunc('month', now()) + interval '1 day' + n * (interval '100 days' / $3::int) AS clock) AS at
"""
DIE = """
CREATE FUNCTION die(n bigint, which int, sides int) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN abs(hashint8extended(n, which) % sides)
"""


async def filled(fresh: FreshDatabase, records: int) -> None:
    owner = await asyncpg.connect(fresh.owner_url, server_settings={"search_path": "audit"})
    try:
        await owner.execute(DIE)
        for first in range(1, records + 1, 50_000):
            await owner.execute(FILL, first, min(first + 49_999, records), records)
        await owner.execute("VACUUM (ANALYZE) records")
    finally:
        await owner.close()


@pytest.fixture
async def conn(context: AuditContext) -> AsyncIterator[Connection]:
    """The service's own connection."""
    async with context.database.connection() as opened:
        yield opened


async def plan_of(conn: Connection, wanted: EventFilter, after: Position | None = None) -> dict[str, Any]:
    sql, values = store.page_query(wanted, after=after, limit=50)
    (plan,) = await conn.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *values)
    return dict(plan)


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *[node for child in plan.get("Plans", []) for node in nodes_of(child)]]


async def assert_answered_from_an_index(conn: Connection, wanted: EventFilter, after: Position | None = None) -> None:
    nodes = nodes_of((await plan_of(conn, wanted, after))["Plan"])
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"], wanted
    # Reading many records to show fifty would be a scan by another name.
    readers = [node for node in nodes if node["Node Type"] in {"Index Scan", "Bitmap Heap Scan"}]
    read = sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in readers)
    assert read < 5_000, (wanted, after, read)
    assert nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"] < 6_000, (wanted, after)


async def assert_every_question_is_answered_from_an_index(conn: Connection) -> None:
    newest = await conn.fetchval("SELECT occurred_at FROM records ORDER BY occurred_at DESC LIMIT 1")
    deep = await conn.fetchrow("SELECT occurred_at, seq FROM records ORDER BY occurred_at DESC OFFSET 49950 LIMIT 1")
    assert deep is not None
    page_1000 = Position(deep["occurred_at"], deep["seq"])
    conditions: list[dict[str, Any]] = [
        {"since": newest - timedelta(days=60), "until": newest - timedelta(days=59)},
        {"actor_id": 7},
        {"action": "action.3"},
        {"target": "invitation:77"},
        {"outcome": "failure"},
        {"request_id": "request-77"},
        {"service": "referrals"},
        {"on_behalf_of": 8},
    ]
    rarely: list[dict[str, Any]] = [
        {"actor_id": 10**12},
        {"service": "nobody"},
        {"outcome": "denied"},
        {"outcome": "success"},
    ]
    for chosen in [*combinations(conditions, 1), *combinations(conditions, 2), *((each,) for each in rarely), ()]:
        wanted = EventFilter(**ChainMap(*chosen))
        await assert_answered_from_an_index(conn, wanted)
        await assert_answered_from_an_index(conn, wanted, page_1000)


async def test_every_filter_every_pair_of_them_and_the_thousandth_page_read_an_index(
    fresh: FreshDatabase, conn: Connection
) -> None:
    await filled(fresh, 60_000)
    await assert_every_question_is_answered_from_an_index(conn)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_filter_and_the_thousandth_page_read_an_index_among_a_million(
    fresh: FreshDatabase, conn: Connection
) -> None:
    await filled(fresh, 1_000_000)
    assert await conn.fetchval("SELECT count(*) FROM records") == 1_000_000
    await assert_every_question_is_answered_from_an_index(conn)
