"""Exports stay whole whatever the records hold."""

from __future__ import annotations

import csv
import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.domain.chain import Record, extend, link_hash
from services.audit.domain.exports import (
    CSV_COLUMNS,
    csv_lines,
    csv_row,
    harmless_cell,
    ndjson_line,
    read_ndjson_line,
)
from services.audit.domain.ocsf import ocsf_event
from tests.audit.material import NOW, a_content, an_empty_head


@given(st.text(), st.text())
def test_evidence_reads_back_to_the_same_hash(reason: str, name: str) -> None:
    (record,) = extend(an_empty_head(), [a_content(reason=reason, details={"name": name})], NOW)
    line = ndjson_line(record)
    assert line.count(b"\n") == 1
    back = read_ndjson_line(line)
    assert isinstance(back, Record)
    assert back.payload == record.payload
    assert link_hash(back.seq, back.prev_hash, back.payload) == record.hash


@given(st.text())
def test_a_csv_row_reads_back_as_one_row(reason: str) -> None:
    (record,) = extend(an_empty_head(), [a_content(reason=reason)], NOW)
    rows = list(csv.reader(io.StringIO(csv_lines([csv_row(record)]).decode(), newline="")))
    assert len(rows) == 1
    assert len(rows[0]) == len(CSV_COLUMNS)
    assert rows[0][CSV_COLUMNS.index("reason")].lstrip("'") == reason.replace("\0", "\ufffd").lstrip("'")


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "\u00a0=1", "|x", "%x"]
)
def test_no_cell_is_a_formula(text: str) -> None:
    assert harmless_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["Ayşe Öztürk", "a=b", "42", ""])
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
    event = ocsf_event(record)
    assert (event["type_uid"], event["class_uid"], event["activity_id"]) == (type_uid, type_uid // 100, type_uid % 100)
    assert (event["status_id"], event["severity_id"]) == (2, 5)
    assert event["time"] == 1795334400000
    assert event["attestation"]["fingerprint"]["value"] == record.hash.hex()
    assert orjson.loads(orjson.dumps(event)) == event
