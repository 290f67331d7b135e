"""Results of verifications are signed: a forged one is named, shown to nobody, and keeps nobody from verifying."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import orjson
import pytest
from prometheus_client import REGISTRY

from services.audit import commands, store
from services.audit.app import create_app
from services.audit.commands import results
from services.audit.context import AuditContext
from services.audit.domain.canonical import canonical
from services.audit.domain.findings import Report
from services.audit.settings import AuditSettings
from services.audit.worker import queue_verification, verify_queued
from shared.db import Connection
from shared.db import Connection as Owner
from tests.audit.material import named, rehash, verified, verify_now
from tests.support.asgi import calling
from tests.support.tokens import Issuer

pytestmark = pytest.mark.usefixtures("log_of_ten")


@pytest.fixture
async def client(settings: AuditSettings, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    """An auditor's client."""
    async with calling(create_app(settings, issuer.verifier())) as opened:
        opened.headers.update(issuer.headers(9, "Auditor"))
        yield opened


FORGERIES = [
    'UPDATE verifications SET ok = true, report = report || \'{"findings": [], "total_findings": 0}\'',
    "UPDATE verifications SET finished_at = now() + interval '1 year'",
    "UPDATE verifications SET signature = NULL",
    "UPDATE verifications SET whole = false",
    "UPDATE verifications SET last_seq = 1000",
]


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_changed_result_is_named_and_shown_to_nobody(
    context: AuditContext, owner: Owner, client: httpx.AsyncClient, forgery: str
) -> None:
    await owner.execute("UPDATE records SET actor_id = 7 WHERE seq = 4")
    await verify_now(context)
    assert (await client.get("/api/v1/audit/verification")).json()["ok"] is False
    await owner.execute(forgery)
    assert named(await verified(context)) == {("COLUMN", 4), ("RESULT", 0)}
    assert (await client.get("/api/v1/audit/verification")).json()["status"] == "never"


async def test_a_forged_good_result_keeps_no_record_from_the_next_verification(
    context: AuditContext, owner: Owner
) -> None:
    await verify_now(context)
    await owner.execute("UPDATE records SET actor_id = 7 WHERE seq = 4")
    await owner.execute(
        """INSERT INTO verifications (id, status, whole, started_at, finished_at, ok, last_seq, report, signature)
           SELECT gen_random_uuid(), 'finished', true, now(), now() + interval '1 year', true, 10, report, signature
           FROM verifications"""
    )
    report = await verify_now(context, whole=True)
    assert {(finding["kind"], finding["seq"]) for finding in report["findings"]} == {("COLUMN", 4), ("RESULT", 0)}


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_a_verification_that_is_to_begin_in_the_future_is_named_and_holds_up_nothing(
    context: AuditContext, owner: Owner, status: str
) -> None:
    await owner.execute(
        """INSERT INTO verifications (id, status, whole, requested_at, started_at)
           VALUES (gen_random_uuid(), $1, true, now(), now() + interval '1 year')""",
        status,
    )
    assert named(await verified(context)) == {("RESULT", 0)}
    await queue_verification(context)
    assert await owner.fetchval("SELECT count(*) FROM verifications WHERE started_at IS NULL") == 1


async def test_a_history_rehashed_behind_the_last_verification_is_named_by_the_next_one(
    context: AuditContext, owner: Owner
) -> None:
    """It goes on from the hash that was signed, not from whatever the database now says of that place."""
    await verify_now(context)
    await owner.execute("UPDATE records SET payload = replace(convert_from(payload, 'UTF8'), 'admin', 'user')::bytea")
    await rehash(owner, 1, bytes(32))
    await owner.execute("DELETE FROM checkpoints")
    for file in context.settings.checkpoint_dir.iterdir():
        file.unlink()
    report = await verify_now(context)
    assert [(finding["kind"], finding["seq"]) for finding in report["findings"]] == [("LINK", 10)]


async def test_a_record_can_not_keep_the_result_of_its_verification_from_being_saved(
    context: AuditContext, owner: Owner
) -> None:
    content = orjson.loads(await owner.fetchval("SELECT payload FROM records WHERE seq = 4"))
    forged = canonical(content | {"type": "a\0b\x1b[2K", "sequence": 7})
    await owner.execute("UPDATE records SET payload = $1 WHERE seq = 4", forged)
    await rehash(owner, 4)
    report = await verify_now(context)
    assert "a\\u0000b\\u001b[2K" in " ".join(finding["detail"] for finding in report["findings"])


async def test_a_finding_that_stays_is_recorded_once_and_stays_in_every_result(
    context: AuditContext, owner: Owner
) -> None:
    await verify_now(context)
    await owner.execute("UPDATE chain_head SET hash = $1", bytes(32))
    for _ in range(3):
        assert (await verify_now(context))["ok"] is False
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE envelope LIKE '%critical%'::bytea") == 1


async def test_old_results_are_forgotten_but_for_those_that_the_next_one_goes_on_from(
    context: AuditContext, owner: Owner
) -> None:
    await verify_now(context)
    await verify_now(context)
    await owner.execute("UPDATE verifications SET finished_at = finished_at - interval '8 days'")
    await verify_now(context)
    kept = await owner.fetch(
        "SELECT whole, finished_at > now() - interval '1 day' AS new FROM verifications ORDER BY 2, 1 DESC"
    )
    assert [tuple(row) for row in kept] == [(True, False), (False, False), (True, True)]


async def test_every_replica_tells_the_metrics_of_the_newest_result(context: AuditContext, owner: Owner) -> None:
    await owner.execute("UPDATE records SET actor_id = 7 WHERE seq = 4")
    await verify_now(context)
    results.VERIFIED_OK.set(1)
    await queue_verification(context)
    assert REGISTRY.get_sample_value("audit_verification_ok") == 0


async def test_a_verification_whose_worker_died_is_taken_over(context: AuditContext, owner: Owner) -> None:
    await queue_verification(context)
    await owner.execute("UPDATE verifications SET status = 'running', started_at = now() - interval '61 seconds'")
    async with context.database.connection() as conn:
        await store.hold_verification(conn, await owner.fetchval("SELECT id FROM verifications"))
        await verify_queued(context)
        assert await owner.fetchval("SELECT status FROM verifications") == "running", "its worker lives"
    await verify_queued(context)
    assert await owner.fetchval("SELECT status FROM verifications") == "finished"


async def test_a_verification_that_runs_is_held_by_its_worker(
    context: AuditContext, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    seen: list[int] = []

    async def look(_: Connection, __: object) -> Report:
        seen.append(await owner.fetchval(held))
        return Report()

    monkeypatch.setattr(commands, "verify", look)
    await queue_verification(context)
    await verify_queued(context)
    assert (seen, await owner.fetchval(held)) == ([1], 0)
