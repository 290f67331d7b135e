"""The HTTP interface: who may read, what can be asked, and that reading leaves a trace."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest

from services.audit import store
from services.audit.app import create_app
from services.audit.context import AuditContext
from services.audit.domain.chain import Record, link_hash
from services.audit.domain.checkpoints import VerifierKey, open_note
from services.audit.domain.exports import CSV_COLUMNS, read_ndjson_line
from services.audit.domain.offline import verify_export
from services.audit.settings import AuditSettings
from services.audit.worker import verify_queued
from shared.db import Connection
from shared.identifiers import uuid7
from shared.pagination import encode_cursor
from tests.audit.material import NOW, a_signed_checkpoint, an_arrival, erase, kept_outside, sealed
from tests.support.asgi import calling
from tests.support.databases import FreshDatabase
from tests.support.evidence import refused_evidence
from tests.support.tokens import Issuer

EVENTS = "/api/v1/audit/events"


@pytest.fixture
async def client(settings: AuditSettings, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    """An auditor's client."""
    async with calling(create_app(settings, issuer.verifier())) as opened:
        opened.headers.update(issuer.headers(9, "Auditor"))
        yield opened


async def a_history(context: AuditContext) -> None:
    """Six events, one a minute, by different people about different things."""
    for minute in range(6):
        data: dict[str, Any] = {
            "actor": {"kind": "admin", "id": 166 if minute % 2 else 167, "roles": ["Admin"]},
            "action": "invitations.bulk.sent_on_behalf" if minute < 2 else "invitations.invitation.cancelled",
            "outcome": "denied" if minute == 5 else "success",
            "target": {"kind": "invitation", "id": str(minute)},
            "on_behalf_of": 6 if minute < 4 else None,
            "request_id": f"request-{minute // 2}",
        }
        await sealed(context, an_arrival(occurred_at=NOW + timedelta(minutes=minute), sequence=minute + 1, data=data))


async def found(client: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = await client.get(EVENTS, params=params)
    assert answer.status_code == 200, answer.text
    return [item["target"]["id"] for item in answer.json()["items"]]


async def test_admins_and_auditors_read_and_nobody_else(
    settings: AuditSettings, issuer: Issuer, context: AuditContext
) -> None:
    answers = {("Sponsor",): 403, ("Player",): 403, ("Admin",): 200, ("Auditor",): 200, (): 403}
    async with calling(create_app(settings, issuer.verifier())) as client:
        for path in (EVENTS, "/api/v1/audit/export", "/api/v1/audit/verification"):
            assert (await client.get(path)).status_code == 401
            for roles, status in answers.items():
                assert (await client.get(path, headers=issuer.headers(9, *roles))).status_code == status, roles
    async with context.database.connection() as conn:
        rows = await conn.fetch("SELECT envelope FROM outbox ORDER BY id")
    refused = [data for row in rows if (data := orjson.loads(row["envelope"])["data"])["outcome"] == "denied"]
    assert len(refused) == 9, "whoever tried is on record, each time"
    assert {data["action"] for data in refused} == {"audit.access.refused"}


async def test_every_filter_finds_what_it_names(client: httpx.AsyncClient, context: AuditContext) -> None:
    await a_history(context)
    newest_first = ["5", "4", "3", "2", "1", "0"]
    assert await found(client) == newest_first
    assert await found(client, actor=166) == ["5", "3", "1"]
    assert await found(client, action="invitations.bulk.sent_on_behalf") == ["1", "0"]
    assert await found(client, outcome="denied") == ["5"]
    assert await found(client, target="invitation:3") == ["3"]
    assert await found(client, on_behalf_of=6) == ["3", "2", "1", "0"]
    assert await found(client, request_id="request-1") == ["3", "2"]
    assert await found(client, service="invitations") == newest_first
    assert await found(client, service="auth") == []
    until = (NOW + timedelta(minutes=4)).isoformat()
    assert await found(client, **{"from": (NOW + timedelta(minutes=2)).isoformat(), "to": until}) == ["3", "2"]
    assert await found(client, actor=166, on_behalf_of=6, outcome="success") == ["3", "1"]


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "colour"),
    ({"outcome": "perhaps"}, "outcome"),
    ({"from": "yesterday"}, "from"),
    ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
    ({"to": "9999-12-31T23:59:59-14:00"}, "to"),
    ({"actor": "me"}, "actor"),
    ({"limit": 0}, "limit"),
    ({"limit": 1001}, "limit"),
    ({"cursor": "nonsense"}, "cursor"),
    ({"cursor": "WzEsMl0"}, "cursor"),
    ({"cursor": encode_cursor("0001-01-01T00:00:00+14:00", 1)}, "cursor"),
    ({"action": "a\0b"}, "action"),
    ({"actor": 2**63}, "actor"),
]


async def test_a_question_that_makes_no_sense_is_refused_by_name(client: httpx.AsyncClient) -> None:
    for params, field in NONSENSE:
        answer = await client.get(EVENTS, params=params)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), params
        assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_pages_hold_every_event_once_while_new_ones_arrive(
    client: httpx.AsyncClient, context: AuditContext
) -> None:
    await a_history(context)
    seen: list[str] = []
    cursor: str | None = None
    for turn in range(3):
        params: dict[str, Any] = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        body = (await client.get(EVENTS, params=params)).json()
        seen += [item["target"]["id"] for item in body["items"]]
        cursor = body["next_cursor"]
        await sealed(context, an_arrival(occurred_at=NOW + timedelta(hours=1 + turn), sequence=10 + turn))
    assert seen == ["5", "4", "3", "2", "1", "0"]
    assert cursor is None


async def test_events_of_one_moment_are_paged_without_loss(client: httpx.AsyncClient, context: AuditContext) -> None:
    await sealed(context, *[an_arrival(sequence=n, data={"target": {"kind": "x", "id": str(n)}}) for n in range(1, 8)])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        body = (await client.get(EVENTS, params={"limit": 3, **({"cursor": cursor} if cursor else {})})).json()
        seen += [item["target"]["id"] for item in body["items"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert seen == ["7", "6", "5", "4", "3", "2", "1"]


async def test_an_event_is_shown_whole(client: httpx.AsyncClient, context: AuditContext) -> None:
    arrival = an_arrival(
        data={
            "details": {"success_count": 1, "results": [{"phone": "05421396386", "success": True}]},
            "personal": {"ip": "192.0.2.7", "user_agent": "curl/8"},
        }
    )
    await sealed(context, arrival)
    event = (await client.get(f"{EVENTS}/{arrival.event_id}")).json()
    assert event["actor"] == {"id": 166, "kind": "admin", "roles": ["Admin"]}
    assert event["details"] == {"success_count": 1, "results": [{"phone": "05421396386", "success": True}]}
    assert (event["ip"], event["user_agent"], event["personal_erased"]) == ("192.0.2.7", "curl/8", False)
    assert (event["on_behalf_of"], event["request_id"], event["seq"]) == (6, "request-1", 1)
    assert event["occurred_at"] == "2026-11-22T08:00:00Z"
    assert event["recorded_at"] > "2026"


async def test_an_unknown_event_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{EVENTS}/{uuid7()}")
    assert (answer.status_code, answer.json()["code"]) == (404, "AUDIT_EVENT_NOT_FOUND")
    assert (await client.get(f"{EVENTS}/nonsense")).status_code == 422


async def test_reading_and_exporting_are_recorded_in_the_same_transaction(
    client: httpx.AsyncClient, context: AuditContext
) -> None:
    await a_history(context)
    await client.get(EVENTS, params={"actor": 166}, headers={"x-request-id": "who-looked"})
    await client.get("/api/v1/audit/export", params={"format": "csv"})
    async with context.database.connection() as conn:
        rows = await conn.fetch("SELECT envelope FROM outbox ORDER BY id")
    read, exported = (orjson.loads(row["envelope"])["data"] for row in rows)
    assert read["action"] == "audit.log.read"
    assert read["actor"] == {"kind": "user", "id": 9, "roles": ["Auditor"]}
    assert read["details"] == {"filters": {"actor": 166, "limit": 50}, "shown": 3}
    assert read["request_id"] == "who-looked"
    assert (exported["action"], exported["details"]["last_seq"]) == ("audit.log.exported", 6)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "events"),
        ("GET", "events/019ab000-0000-7000-8000-000000000001"),
        ("GET", "export"),
        ("POST", "verification"),
    ],
)
async def test_whoever_can_not_be_recorded_sees_nothing(
    client: httpx.AsyncClient, context: AuditContext, fresh: FreshDatabase, method: str, path: str
) -> None:
    await a_history(context)
    async with refused_evidence(fresh):
        answer = await client.request(method, f"/api/v1/audit/{path}")
        assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")


async def test_the_log_answers_no_method_that_would_change_it(client: httpx.AsyncClient) -> None:
    for method in ("PUT", "PATCH", "DELETE", "POST"):
        assert (await client.request(method, EVENTS)).status_code == 405
        assert (await client.request(method, f"{EVENTS}/{uuid7()}")).status_code == 405


async def test_an_ndjson_export_is_evidence_without_personal_data(
    client: httpx.AsyncClient, context: AuditContext
) -> None:
    await a_history(context)
    await a_signed_checkpoint(context)
    lines = (await client.get("/api/v1/audit/export")).content.splitlines()
    first, last = orjson.loads(lines[0]), orjson.loads(lines[-1])
    key = VerifierKey.parse(first["verifier_key"])
    assert open_note(first["checkpoint"], [key]).seq == 6
    assert (last["part"], last["records"]) == ("last line", 6)
    prev = bytes(32)
    for line in lines[1:-1]:
        record = read_ndjson_line(line)
        assert isinstance(record, Record)
        assert record.prev_hash == prev
        assert link_hash(record.seq, prev, record.payload) == record.hash
        prev = record.hash
    assert prev == open_note(first["checkpoint"], [key]).head
    assert b"192.0.2.7" not in b"".join(lines)


async def test_an_export_that_begins_while_a_checkpoint_is_signed_is_evidence(
    client: httpx.AsyncClient, context: AuditContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_history(context)
    await a_signed_checkpoint(context)
    read: list[str] = []

    def and_meanwhile(name: str) -> None:
        plain = getattr(store, name)

        async def reading(conn: Connection) -> Any:
            found = await plain(conn)
            read.append(name)
            if len(read) == 1:
                await sealed(context, an_arrival(sequence=7))
                await a_signed_checkpoint(context)
            return found

        monkeypatch.setattr(store, name, reading)

    and_meanwhile("get_head")
    and_meanwhile("find_last_checkpoint")
    exported = (await client.get("/api/v1/audit/export")).content.splitlines(keepends=True)
    assert {"get_head", "find_last_checkpoint"} <= set(read)
    assert verify_export(exported, [context.signing_key.verifier]).findings == []


async def test_a_csv_export_holds_the_filtered_events_and_no_formula(
    client: httpx.AsyncClient, context: AuditContext
) -> None:
    await sealed(context, an_arrival(data={"reason": "=cmd|' /C calc'!A0\r\n", "outcome": "denied"}))
    await sealed(context, an_arrival(sequence=2))
    answer = await client.get("/api/v1/audit/export", params={"format": "csv", "outcome": "denied"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert len(rows) == 1
    assert tuple(rows[0]) == CSV_COLUMNS
    assert rows[0]["reason"] == "'=cmd|' /C calc'!A0\\u000d\\u000a"
    assert len(answer.text.splitlines()) == 2


async def test_an_ocsf_export_has_one_event_a_line(client: httpx.AsyncClient, context: AuditContext) -> None:
    await a_history(context)
    await a_signed_checkpoint(context)
    lines = (await client.get("/api/v1/audit/export", params={"format": "ocsf"})).content.splitlines()
    assert [orjson.loads(line)["metadata"]["sequence"] for line in lines] == [1, 2, 3, 4, 5, 6]
    chains = {orjson.loads(line)["attestation"]["chain_uid"] for line in lines}
    assert chains == {open_note(kept_outside(context)[0], context.verifier_keys).origin}


async def test_an_export_streams_stretch_by_stretch(
    client: httpx.AsyncClient, context: AuditContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit.routes.events._STRETCH", 2)
    await a_history(context)
    lines = (await client.get("/api/v1/audit/export", params={"format": "ocsf"})).content.splitlines()
    assert [orjson.loads(line)["metadata"]["sequence"] for line in lines] == [1, 2, 3, 4, 5, 6]


async def test_hostile_names_and_browsers_leave_every_export_whole(
    client: httpx.AsyncClient, context: AuditContext
) -> None:
    hostile = "=cmd()\r\n✅ forged\x1b[2K\x9b2K\x85\u2028\u2029\u202e\t@SUM(A1)"
    data = {
        "reason": hostile,
        "target": {"kind": "user", "id": hostile},
        "details": {"name": hostile, hostile: "+1"},
        "personal": {"user_agent": hostile, "email": hostile},
        "request_id": hostile,
    }
    await sealed(context, an_arrival(data=data), an_arrival(sequence=2))
    await a_signed_checkpoint(context)
    for form, lines in (("ndjson", 4), ("csv", 3), ("ocsf", 2)):
        text = (await client.get("/api/v1/audit/export", params={"format": form})).text
        assert len(text.splitlines()) == lines, form
        assert not {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"}} - {"\r", "\n"}
        if form == "csv":
            rows = list(csv.reader(io.StringIO(text, newline="")))
            assert [len(row) for row in rows] == [len(CSV_COLUMNS)] * 3
            assert not [cell for row in rows for cell in row if cell.strip().startswith(("=", "+", "-", "@"))]
        elif form == "ocsf":
            assert orjson.loads(text.splitlines()[0])["status_detail"] == hostile
        else:
            exported = text.encode().splitlines(keepends=True)
            assert verify_export(exported, [context.signing_key.verifier]).ok
            assert orjson.loads(exported[1])["payload"]["reason"] == hostile


async def test_a_selection_is_exported_piece_by_piece_and_holds_every_matching_event_once(
    client: httpx.AsyncClient, context: AuditContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit.routes.events._STRETCH", 2)
    await a_history(context)
    params = {"format": "ocsf", "service": "invitations", "from": (NOW + timedelta(minutes=1)).isoformat()}
    lines = (await client.get("/api/v1/audit/export", params=params)).content.splitlines()
    assert [orjson.loads(line)["metadata"]["sequence"] for line in lines] == [2, 3, 4, 5, 6]


async def test_the_largest_records_come_some_at_a_time_and_each_once(
    client: httpx.AsyncClient, context: AuditContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [{"success": True, "note": "x" * 200} for _ in range(1_000)]
    await sealed(
        context, *[an_arrival(sequence=number, data={"details": {"results": results}}) for number in range(1, 7)]
    )
    monkeypatch.setattr("services.audit.store.records._PAGE_BYTES", 500_000)
    pages: list[list[int]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await client.get(EVENTS, params={"limit": 1_000, **cursor})).json()
        pages.append([item["seq"] for item in page["items"]])
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert pages == [[6, 5, 4], [3, 2, 1], []]
    exported = await client.get("/api/v1/audit/export", params={"service": "invitations", "format": "ocsf"})
    assert [orjson.loads(line)["metadata"]["sequence"] for line in exported.content.splitlines()] == [1, 2, 3, 4, 5, 6]


async def test_an_unknown_export_filter_is_refused(client: httpx.AsyncClient) -> None:
    for params in ({"format": "xml"}, {"colour": "red"}, {"limit": "5"}):
        assert (await client.get("/api/v1/audit/export", params=params)).status_code == 422


async def test_erased_data_reads_as_erased_and_the_chain_stays_whole(
    client: httpx.AsyncClient, context: AuditContext
) -> None:
    arrival, other = an_arrival(), an_arrival(sequence=2, data={"personal": {"phone": "+905339876543"}})
    await sealed(context, arrival, other)
    erased = await erase(context)
    assert erased == 1
    gone = (await client.get(f"{EVENTS}/{arrival.event_id}")).json()
    assert (gone["personal"], gone["ip"], gone["personal_erased"]) == (None, None, True)
    kept = (await client.get(f"{EVENTS}/{other.event_id}")).json()
    assert kept["personal"] == {"phone": "+905339876543"}
    await client.post("/api/v1/audit/verification")
    await verify_queued(context)
    assert (await client.get("/api/v1/audit/verification")).json()["ok"] is True


async def test_a_verification_is_asked_for_run_and_shown(client: httpx.AsyncClient, context: AuditContext) -> None:
    await a_history(context)
    never = (await client.get("/api/v1/audit/verification")).json()
    assert (never["status"], never["ok"], never["findings"], never["pending"]) == ("never", None, [], None)
    queued = await client.post("/api/v1/audit/verification")
    assert queued.status_code == 202
    pending = (await client.get("/api/v1/audit/verification")).json()["pending"]
    assert (pending["id"], pending["status"], pending["requested_by"]) == (queued.json()["id"], "queued", 9)
    await verify_queued(context)
    state = (await client.get("/api/v1/audit/verification")).json()
    assert state["pending"] is None
    assert (state["status"], state["id"], state["ok"]) == ("finished", queued.json()["id"], True)
    assert (state["records"], state["findings"]) == (6, [])


async def test_the_latest_checkpoint_can_be_checked_by_an_outsider(
    client: httpx.AsyncClient, context: AuditContext
) -> None:
    missing = await client.get("/api/v1/audit/checkpoints/latest")
    assert (missing.status_code, missing.json()["code"]) == (404, "AUDIT_NO_CHECKPOINT_YET")
    await a_history(context)
    await a_signed_checkpoint(context)
    body = (await client.get("/api/v1/audit/checkpoints/latest")).json()
    checkpoint = open_note(body["note"], [VerifierKey.parse(body["verifier_key"])])
    assert (checkpoint.seq, checkpoint.number, body["seq"], body["number"]) == (6, 1, 6, 1)
