"""The chain and its canonical bytes, without any server."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from services.audit.domain.canonical import canonical, plain, timestamp
from services.audit.domain.chain import GENESIS, extend, head_after, link_hash
from tests.audit.material import NOW, a_content, an_empty_head

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(ANY_JSON)
def test_any_details_become_bytes_that_read_back_and_canonicalise_to_themselves(details: object) -> None:
    first = canonical({"details": details})
    assert canonical(json.loads(first)) == first


@given(ANY_JSON)
@example({"\U0001f600": 1, "\uffff": 2})
@example({'\x7f\x1f\x00\b\f\n\r\t"\\/\u2028': '\x7f\x1f\x00\b\f\n\r\t"\\/\u2028'})
def test_the_bytes_are_those_of_rfc_8785(details: object) -> None:
    assert canonical({"details": details}) == rfc8785.dumps(plain({"details": details}))


@given(st.dictionaries(st.text(), st.integers(-(10**30), 10**30), min_size=2))
def test_the_order_of_keys_does_not_matter(details: dict[str, int]) -> None:
    assert canonical(details) == canonical(dict(reversed(details.items())))


def test_numbers_that_json_can_not_hold_exactly_are_kept_as_text() -> None:
    assert plain({"big": 2**53, "small": 2**53 - 1, "ratio": 0.5}) == {
        "big": "9007199254740992",
        "small": 9007199254740991,
        "ratio": "0.5",
    }


def test_a_lone_surrogate_is_replaced_and_everything_else_kept() -> None:
    assert canonical({"name": "a\ud800ğ📤"}) == '{"name":"a\ufffdğ📤"}'.encode()


def test_deep_nesting_is_cut_instead_of_exhausting_the_stack() -> None:
    deep: object = "end"
    for _ in range(5000):
        deep = [deep]
    assert b"nested too deep" in canonical({"details": deep})


def test_the_hash_is_the_documented_one() -> None:
    expected = hashlib.sha256(b"audit-v1\0" + (7).to_bytes(8, "big") + GENESIS + hashlib.sha256(b"{}").digest())
    assert link_hash(7, GENESIS, b"{}") == expected.digest()


@given(st.lists(ANY_JSON, min_size=1, max_size=8), st.integers(0, 7))
def test_changing_any_byte_of_any_payload_changes_its_hash(details: list[object], which: int) -> None:
    records = extend(an_empty_head(), [a_content(details={"d": each}) for each in details], NOW)
    record = records[which % len(records)]
    for position in range(0, len(record.payload), 7):
        damaged = bytearray(record.payload)
        damaged[position] ^= 1
        assert link_hash(record.seq, record.prev_hash, bytes(damaged)) != record.hash


def test_records_follow_one_another_without_gaps() -> None:
    records = extend(an_empty_head(), [a_content() for _ in range(5)], NOW)
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert records[0].prev_hash == GENESIS
    assert all(after.prev_hash == before.hash for before, after in pairwise(records))


def test_two_batches_make_the_same_chain_as_one() -> None:
    contents = [a_content() for _ in range(4)]
    whole = extend(an_empty_head(), contents, NOW)
    first = extend(an_empty_head(), contents[:2], NOW)
    second = extend(head_after(an_empty_head(), first, NOW), contents[2:], NOW)
    assert [*first, *second] == whole


def test_the_time_of_recording_never_runs_backwards() -> None:
    first = extend(an_empty_head(), [a_content()], NOW)
    head = head_after(an_empty_head(), first, NOW)
    second = extend(head, [a_content()], NOW - timedelta(hours=1))
    assert second[0].columns is not None
    assert second[0].columns.recorded_at == NOW


@pytest.mark.parametrize("text", ["x" * 5000, "nul\0inside"])
def test_a_column_holds_what_postgres_can_index_and_the_payload_holds_all(text: str) -> None:
    (record,) = extend(an_empty_head(), [a_content(action=text)], NOW)
    assert record.columns is not None
    assert len(record.columns.action) <= 512
    assert "\0" not in record.columns.action
    assert record.content()["action"] == text


@given(st.integers(0, 2**52).map(lambda n: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=n)))
def test_a_time_survives_text_to_the_microsecond(moment: datetime) -> None:
    assert datetime.fromisoformat(timestamp(moment)) == moment
