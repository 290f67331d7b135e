"""Verification names each attack, at the place where it was done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.domain.canonical import canonical
from services.audit.domain.chain import Columns, Head, Record, extend, head_after, link_hash
from services.audit.domain.checkpoints import Checkpoint
from services.audit.domain.findings import Kind, Report
from services.audit.domain.verification import Anchor, CheckpointSeries, Verifier
from tests.audit.material import NOW, a_checkpoint, a_content, an_empty_head


def a_log(size: int = 10) -> tuple[list[Record], Head]:
    contents = [a_content(sequence=number) for number in range(1, size + 1)]
    records = extend(an_empty_head(), contents, NOW)
    return records, head_after(an_empty_head(), records, NOW)


def verify(records: Iterable[Record], head: Head, *checkpoints: Checkpoint, grace_seconds: int = 0) -> Report:
    verifier = Verifier(Anchor(), Report(), whole=True)
    verifier.expect(checkpoints)
    for record in records:
        verifier.feed(record)
    return verifier.finish(head, now=NOW, source_grace=timedelta(seconds=grace_seconds))


def named(report: Report) -> list[tuple[Kind, int]]:
    return [(finding.kind, finding.seq) for finding in report.findings]


def with_payload(record: Record, **changes: object) -> Record:
    return replace(record, payload=canonical({**orjson.loads(record.payload), **changes}))


def rehashed(records: list[Record]) -> list[Record]:
    """Forge a chain that is whole in itself, as the owner of the database can."""
    forged: list[Record] = []
    prev = records[0].prev_hash
    for record in records:
        record_hash = link_hash(record.seq, prev, record.payload)
        forged.append(replace(record, prev_hash=prev, hash=record_hash))
        prev = record_hash
    return forged


def test_an_untouched_log_is_whole() -> None:
    records, head = a_log()
    report = verify(records, head, a_checkpoint(4, records[3].hash), a_checkpoint(10, records[9].hash, number=2))
    assert (report.ok, report.records, report.last_seq, report.checkpoints) == (True, 10, 10, 2)


def test_an_empty_log_is_whole() -> None:
    assert verify([], an_empty_head()).ok


def test_an_edited_payload_is_named() -> None:
    records, head = a_log()
    records[4] = with_payload(records[4], outcome="denied")
    assert named(verify(records, head)) == [(Kind.HASH, 5)]


def test_an_edited_payload_with_its_own_hash_renewed_breaks_the_link_behind_it() -> None:
    records, head = a_log()
    edited = with_payload(records[4], outcome="denied")
    renewed = link_hash(5, edited.prev_hash, edited.payload)
    records[4] = replace(edited, hash=renewed, columns=replace(edited.columns, outcome="denied"))  # type: ignore[type-var]
    assert named(verify(records, head)) == [(Kind.LINK, 6)]


@pytest.mark.parametrize("column", [each.name for each in fields(Columns)])
def test_an_edited_column_is_named(column: str) -> None:
    records, head = a_log()
    records[4] = replace(records[4], columns=replace(records[4].columns, **{column: "other"}))  # type: ignore[type-var]
    report = verify(records, head)
    assert named(report) == [(Kind.COLUMN, 5)]
    assert column in report.findings[0].detail


def test_a_deleted_record_is_named() -> None:
    records, head = a_log()
    del records[4]
    assert (Kind.GAP, 5) in named(verify(records, head))


def test_a_deleted_tail_with_the_head_set_back_is_named_by_a_checkpoint() -> None:
    records, _ = a_log()
    kept = records[:7]
    forged_head = Head(an_empty_head().chain_id, 7, kept[-1].hash, NOW)
    assert verify(kept, forged_head).total_findings == 0
    assert named(verify(kept, forged_head, a_checkpoint(10, records[9].hash))) == [(Kind.TAIL_SHORT, 8)]


def test_a_deleted_tail_with_the_head_left_is_named_without_a_checkpoint() -> None:
    records, head = a_log()
    assert named(verify(records[:7], head)) == [(Kind.TAIL_SHORT, 8)]


def test_a_rewritten_history_is_named_by_a_checkpoint() -> None:
    records, head = a_log()
    signed = a_checkpoint(10, records[9].hash)
    forged = rehashed([*records[:4], with_payload(records[4], reason="forged"), *records[5:]])
    forged_head = replace(head, hash=forged[-1].hash)
    assert verify(forged, forged_head).ok
    assert named(verify(forged, forged_head, signed)) == [(Kind.FORK, 10)]


def test_two_swapped_payloads_are_both_named() -> None:
    records, head = a_log()
    records[2], records[6] = (
        replace(records[2], payload=records[6].payload, columns=records[6].columns),
        replace(records[6], payload=records[2].payload, columns=records[2].columns),
    )
    assert named(verify(records, head)) == [(Kind.HASH, 3), (Kind.HASH, 7)]


def test_a_record_put_into_a_taken_place_is_named() -> None:
    records, head = a_log()
    forged = with_payload(records[4], outcome="denied", sequence=99)
    forged = replace(forged, hash=link_hash(5, forged.prev_hash, forged.payload))
    assert (Kind.FORK, 5) in named(verify([*records[:5], forged, *records[5:]], head))


def test_a_record_behind_the_head_is_named() -> None:
    records, head = a_log()
    forged = extend(head, [a_content(sequence=11)], NOW)
    assert named(verify([*records, *forged], head)) == [(Kind.FORK, 11)]


def test_a_well_chained_forgery_takes_a_number_that_its_alleged_producer_uses_too() -> None:
    contents = [a_content(sequence=1), a_content(sequence=2), a_content(sequence=2)]
    records = extend(an_empty_head(), contents, NOW)
    assert named(verify(records, head_after(an_empty_head(), records, NOW))) == [(Kind.FORK, 3)]


def test_an_event_lost_before_the_chain_is_named_once_it_can_not_be_under_way_any_more() -> None:
    records = extend(an_empty_head(), [a_content(sequence=n) for n in (1, 2, 5, 4)], NOW)
    head = head_after(an_empty_head(), records, NOW)
    report = verify(records, head)
    assert named(report) == [(Kind.SOURCE_GAP, 3)]
    assert "event 3 of auth.audit.recorded.v1" in report.findings[0].detail
    assert verify(records, head, grace_seconds=60).ok


def test_the_first_event_of_a_producer_may_not_be_missing_either() -> None:
    records = extend(an_empty_head(), [a_content(sequence=2)], NOW)
    assert named(verify(records, head_after(an_empty_head(), records, NOW))) == [(Kind.SOURCE_GAP, 1)]


@given(st.permutations(list(range(1, 30))))
def test_a_producers_events_may_arrive_in_any_order(order: list[int]) -> None:
    records = extend(an_empty_head(), [a_content(sequence=number) for number in order], NOW)
    assert verify(records, head_after(an_empty_head(), records, NOW)).ok


def test_a_part_of_the_log_is_checked_against_the_record_before_it() -> None:
    records, _ = a_log()
    for anchor, expected in ((records[3].hash, []), (bytes(32), [(Kind.LINK, 5)])):
        verifier = Verifier(Anchor(4, anchor), Report(), whole=False)
        for record in records[4:8]:
            verifier.feed(record)
        assert named(verifier.finish(None, now=NOW, source_grace=timedelta())) == expected


def test_one_edit_is_one_finding_however_long_the_log_goes_on() -> None:
    records, head = a_log(500)
    records[0] = with_payload(records[0], reason="edited")
    assert named(verify(records, head)) == [(Kind.HASH, 1)]


def test_a_report_stays_short_and_counts_on() -> None:
    records, head = a_log(1500)
    report = verify([with_payload(record, reason="edited") for record in records], head)
    assert (report.total_findings, len(report.findings)) == (1500, 1000)


def test_a_missing_checkpoint_and_a_foreign_one_are_named() -> None:
    first = a_checkpoint(1, b"1" * 32)
    second = a_checkpoint(2, b"2" * 32, number=2, previous=first.digest())
    report = Report()
    follow(report, first, second)
    assert report.ok
    follow(report, first, a_checkpoint(3, b"3" * 32, number=3, previous=second.digest()))
    follow(report, first, replace(second, previous=bytes(32)))
    follow(report, second)
    assert named(report) == [(Kind.GAP, 3), (Kind.LINK, 2), (Kind.GAP, 2)]


def follow(report: Report, *checkpoints: Checkpoint) -> None:
    series = CheckpointSeries()
    for checkpoint in checkpoints:
        series.follow(report, checkpoint)


def test_checkpoints_that_outlived_the_log_name_its_end_once_and_take_little_room() -> None:
    records, _ = a_log()
    verifier = Verifier(Anchor(), Report(), whole=True)
    for record in records[:5]:
        verifier.feed(record)
    for seq in range(6, 25_000):
        verifier.expect([a_checkpoint(seq, bytes(32), number=seq)])
    assert len(verifier._expected) <= 10_000
    report = verifier.finish(Head(an_empty_head().chain_id, 5, records[4].hash, NOW), now=NOW, source_grace=timedelta())
    assert named(report) == [(Kind.TAIL_SHORT, 6)]
    assert "signed for 24999 records, 5 are left" in report.findings[0].detail


def test_what_a_forger_wrote_can_not_act_on_the_terminal_that_shows_it() -> None:
    report = Report()
    report.add(Kind.SOURCE_GAP, 1, "event 1 of a\x1b[2K\0\r\nOK " + "z" * 10_000)
    assert report.findings[0].words().startswith("SOURCE_GAP at 1: event 1 of a\\u001b[2K\\u0000\\u000d\\u000aOK z")
    assert len(report.findings[0].words()) < 1000


@given(st.integers(0, 9), st.integers(0, 2**31))
def test_no_single_flipped_bit_of_a_stored_record_goes_unnoticed(which: int, bit: int) -> None:
    records, head = a_log()
    record = records[which]
    part = ("payload", "hash", "prev_hash")[bit % 3]
    data = bytearray(getattr(record, part))
    data[(bit // 24) % len(data)] ^= 1 << (bit % 8)
    records[which] = replace(record, **{part: bytes(data)})  # type: ignore[arg-type]
    assert not verify(records, head).ok
