"""Exports stay whole whatever the records hold."""

from __future__ import annotations

import csv
import io
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.audit.domain.chain import Record, extend, link_hash
from services.audit.domain.exports import (
    CSV_COLUMNS,
    csv_lines,
    csv_row,
    harmless_cell,
    json_line,
    ndjson_line,
    read_ndjson_line,
)
from services.audit.domain.lines import neutralise
from services.audit.domain.ocsf import ocsf_event
from tests.audit.material import NOW, a_content, an_empty_head
from tests.system.matrix.page import promises

CHAIN = "partner-hub/audit/test"
HOSTILE = "a\r\n✅ forged\x1b[2K\x9b2K\0\x85\u2028\u2029\u202e\u2066\u061c\ufeff\U000e0041\\u2028 =cmd()|'x'!A1"


@given(st.text(), st.text())
@example(HOSTILE, HOSTILE)
def test_evidence_reads_back_to_the_same_hash(reason: str, name: str) -> None:
    (record,) = extend(an_empty_head(), [a_content(reason=reason, details={"name": name})], NOW)
    line = ndjson_line(record)
    assert_is_one_harmless_line(line)
    assert orjson.loads(line)["payload"] == record.content()
    back = read_ndjson_line(line)
    assert isinstance(back, Record)
    assert back.payload == record.payload
    assert link_hash(back.seq, back.prev_hash, back.payload) == record.hash


def assert_is_one_harmless_line(line: bytes) -> None:
    """One line to every reader, also to those that break at U+2028, and nothing that acts on a terminal."""
    text = line.decode()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert neutralise(text.strip("\r\n")) == text.strip("\r\n")


@given(st.text(), st.text())
@example(HOSTILE, HOSTILE)
def test_a_csv_row_reads_back_as_one_row(reason: str, name: str) -> None:
    (record,) = extend(an_empty_head(), [a_content(reason=reason, details={"name": name})], NOW)
    line = csv_lines([csv_row(record)])
    assert_is_one_harmless_line(line)
    rows = list(csv.reader(io.StringIO(line.decode(), newline="")))
    assert len(rows) == 1
    assert len(rows[0]) == len(CSV_COLUMNS)
    assert rows[0][CSV_COLUMNS.index("reason")].lstrip("'") == neutralise(reason).lstrip("'")
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in rows[0])


@given(st.text())
@example(HOSTILE)
def test_an_ocsf_event_is_one_line(reason: str) -> None:
    (record,) = extend(an_empty_head(), [a_content(reason=reason)], NOW)
    line = json_line(ocsf_event(record, CHAIN))
    assert_is_one_harmless_line(line)
    assert orjson.loads(line) == ocsf_event(record, CHAIN)


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "\u00a0=1", "|x", "%x"]
)
def test_no_cell_is_a_formula(text: str) -> None:
    assert harmless_cell(text) == f"'{neutralise(text)}"


@pytest.mark.parametrize("text", ["a;=cmd()", 'a; "@SUM(A1)', "a;-1;+2", "=1;=2", ";\u00a0\uff1d1"])
def test_no_cell_is_a_formula_where_semicolons_separate_cells(text: str) -> None:
    line = csv_lines([[text, "="]]).decode()
    assert not any(cell.lstrip(' "\u00a0').startswith(("=", "+", "-", "@", "\uff1d")) for cell in line.split(";"))


@pytest.mark.parametrize("text", ["Ayşe Öztürk", "a=b", "a; b", "42", ""])
def test_an_ordinary_cell_stays_as_it_is(text: str) -> None:
    assert harmless_cell(text) == text


@pytest.mark.parametrize(
    ("action", "type_uid"),
    [
        ("auth.sign_in", 300201),
        ("auth.logout", 300202),
        ("auth.password_reset.completed", 300104),
        ("auth.password.changed", 300103),
        ("auth.second_factor.confirmed", 300110),
        ("auth.break_glass.used", 300199),
        ("auth.grants.changed", 300501),
        ("audit.log.read", 600302),
        ("invitations.bulk.sent_on_behalf", 600399),
        ("partner_center.sync.completed", 600399),
    ],
)
def test_ocsf_has_a_class_for_every_action(action: str, type_uid: int) -> None:
    (record,) = extend(an_empty_head(), [a_content(action=action, outcome="denied", severity="critical")], NOW)
    event = ocsf_event(record, CHAIN)
    assert (event["type_uid"], event["class_uid"], event["activity_id"]) == (type_uid, type_uid // 100, type_uid % 100)
    assert (event["status_id"], event["severity_id"]) == (2, 5)
    assert event["time"] == 1795334400000
    assert (event["attestation"]["fingerprint"]["value"], event["attestation"]["chain_uid"]) == (
        record.hash.hex(),
        CHAIN,
    )
    assert event.get("activity_name") == (action if type_uid % 100 == 99 else None), "OCSF has names for its own"
    assert orjson.loads(orjson.dumps(event)) == event


# What the classes of OCSF 1.8.0 require, or require one of.
_REQUIRED = {"metadata", "time", "class_uid", "category_uid", "activity_id", "type_uid", "severity_id"}
_OF_CLASS = {
    3001: {"user"},
    3002: {"user", "service"},
    3005: {"user", "privileges"},
    6003: {"actor", "api", "src_endpoint"},
}


@pytest.mark.parametrize("action", sorted(promises()))
@pytest.mark.parametrize(
    "actor", [{"kind": "anonymous", "id": None, "roles": []}, {"kind": "admin", "id": 7, "roles": []}]
)
def test_every_act_is_an_event_with_what_its_class_requires(action: str, actor: dict[str, Any]) -> None:
    contents = [a_content(action=action, actor=actor, target=target) for target in (None, {"kind": "user", "id": "8"})]
    for record in extend(an_empty_head(), contents, NOW):
        event = ocsf_event(record, CHAIN)
        assert _REQUIRED | _OF_CLASS[event["class_uid"]] <= event.keys()
        assert b":null" not in orjson.dumps(event)
        for user in [event["actor"]["user"], *([event["user"]] if "user" in event else [])]:
            assert user.keys() & {"name", "uid"}
        assert (event["actor"]["user"]["type_id"], event["actor"]["user"]["type"]) in ((99, "anonymous"), (2, "Admin"))
        assert ("prev_event" in event["attestation"]) == (record.seq > 1)
