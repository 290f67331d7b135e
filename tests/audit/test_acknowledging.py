"""A finding that is understood and can't be undone does not keep the alarm on, and hides no other."""

from __future__ import annotations

import orjson
import pytest

from services.audit.context import AuditContext
from shared.db import Connection as Owner
from tests.audit.material import an_arrival, named, sealed, verified, verify_now
from tests.audit.processes import run

pytestmark = pytest.mark.usefixtures("log_of_ten")

WORDS = ("acknowledge", "--kind", "SOURCE_GAP", "--reason", "lost in the restore of 2 May")


async def a_lost_event(context: AuditContext) -> None:
    await sealed(context, an_arrival(sequence=12))


async def test_what_was_acknowledged_is_told_apart_and_the_next_finding_is_not(
    context: AuditContext, owner: Owner, environment: dict[str, str]
) -> None:
    environment["AUDIT_SOURCE_GRACE_SECONDS"] = "0"
    await a_lost_event(context)
    assert (await run(environment, "verify"))[0] == 1
    code, text = await run(environment, *WORDS)
    assert (code, text.strip()) == (
        0,
        "acknowledged: SOURCE_GAP at 11: event 11 of invitations.audit.recorded.v1 never arrived",
    )
    code, text = await run(environment, "verify")
    assert code == 3
    assert text.splitlines()[0].endswith(": lost in the restore of 2 May)")
    assert text.splitlines()[-1] == "OK: records 1 to 11, 11 read, 1 checkpoints compared, 0 findings, 1 known"
    report = await verify_now(context)
    assert (report["ok"], [known["reason"] for known in report["known"]]) == (True, ["lost in the restore of 2 May"])
    record = orjson.loads(await owner.fetchval("SELECT envelope FROM outbox ORDER BY id LIMIT 1"))["data"]
    assert (record["action"], record["severity"]) == ("audit.finding.acknowledged", "warning")
    assert (record["details"]["kind"], record["details"]["seq"]) == ("SOURCE_GAP", 11)

    await owner.execute("UPDATE records SET actor_id = 7 WHERE seq = 4")
    assert named(await verified(context)) == {("COLUMN", 4)}
    code, text = await run(environment, *WORDS)
    assert (code, "finds nothing of the kind SOURCE_GAP there that is not acknowledged" in text) == (1, True)


@pytest.mark.parametrize("change", ["SET seq = 4, kind = 'HASH'", "SET reason = 'nothing happened'"])
async def test_a_forged_acknowledgement_is_named_and_acknowledges_nothing(
    context: AuditContext, owner: Owner, environment: dict[str, str], change: str
) -> None:
    environment["AUDIT_SOURCE_GRACE_SECONDS"] = "0"
    await a_lost_event(context)
    assert (await run(environment, *WORDS))[0] == 0
    await owner.execute(f"UPDATE acknowledgements {change}")
    assert named(await verified(context)) == {("SOURCE_GAP", 11), ("RESULT", 0)}


async def test_only_findings_of_the_places_that_were_named_are_acknowledged(
    context: AuditContext, owner: Owner, environment: dict[str, str]
) -> None:
    await owner.execute("UPDATE records SET actor_id = 7 WHERE seq IN (3, 5, 7)")
    await run(environment, "acknowledge", "--kind", "COLUMN", "--reason", "tried it", "--from", "4", "--to", "6")
    assert named(await verified(context)) == {("COLUMN", 3), ("COLUMN", 7)}
