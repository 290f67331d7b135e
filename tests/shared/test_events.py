"""An event survives its journey, and old messages and new code mix."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import telemetry
from shared.events import (
    AuthAudit,
    Event,
    InvitationCreated,
    PasswordResetRequested,
    ReferralChanged,
    Undecodable,
    UserRegistered,
    catalog,
    decode,
    encode,
    with_sequence,
)
from shared.events.audit import Actor, Target
from shared.identifiers import uuid7
from shared.telemetry import Trace
from tests.support.builders import a_user_registered


def fields(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(body)
    return found


def changed(body: bytes, **changes: Any) -> bytes:
    return orjson.dumps(fields(body) | changes)


@given(st.text(), st.emails(), st.integers(1, 2**63 - 1))
def test_an_event_comes_back_as_it_went(name: str, email: str, user_id: int) -> None:
    event = a_user_registered(user_id, full_name=name, email=email)

    assert decode(encode(event)[1]).event == event


def test_an_envelope_is_a_cloud_event() -> None:
    before = datetime.now(UTC)
    event_id, body = encode(a_user_registered(6))

    found = fields(body)

    assert found["specversion"] == "1.0"
    assert found["id"] == str(event_id)
    assert found["source"] == "/partner-hub/auth"
    assert found["type"] == "auth.user.registered.v1"
    assert found["subject"] == "user/6"
    assert found["datacontenttype"] == "application/json"
    assert before <= datetime.fromisoformat(found["time"]) <= datetime.now(UTC)
    # Names of attributes: lower-case letters and digits (CloudEvents 1.0, "Naming conventions").
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in found)


def test_an_event_is_tied_to_the_request_and_the_event_that_caused_it() -> None:
    trace = Trace("request-1", causation_id="0190-cause", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    with telemetry.use(trace):
        _, body = encode(a_user_registered())

    envelope = decode(body)

    assert (envelope.correlation_id, envelope.causation_id, envelope.traceparent) == (
        "request-1",
        "0190-cause",
        trace.traceparent,
    )


def test_an_event_without_a_subject_or_cause_leaves_them_out() -> None:
    _, body = encode(PasswordResetRequested(email="x@example.com", requested_at=datetime.now(UTC)))

    assert {"subject", "causationid"} & fields(body).keys() == set()


def test_the_sequence_is_added_to_the_finished_envelope() -> None:
    _, body = encode(a_user_registered())

    assert decode(body).sequence is None
    assert decode(with_sequence(body, 41)).sequence == 41
    assert fields(with_sequence(body, 41)) == fields(body) | {"sequence": "41"}


def test_a_field_that_this_code_does_not_know_is_ignored() -> None:
    _, body = encode(a_user_registered())
    newer = changed(body, data=fields(body)["data"] | {"shoe_size": 44}, partitionkey="6")

    assert decode(newer).event == decode(body).event


def test_a_message_of_older_code_lacks_only_optional_fields() -> None:
    _, body = encode(InvitationCreated(invitation_id=1, sponsor_id=6, package_tier="M", code_count=2, job_id=3))
    data = fields(body)["data"]
    del data["job_id"]

    event = decode(changed(body, data=data)).event

    assert isinstance(event, InvitationCreated)
    assert event.job_id is None


RECORDED = (Path(__file__).parent / "recorded_messages.jsonl").read_bytes().splitlines()


def test_a_message_of_every_event_was_recorded_when_it_was_first_published() -> None:
    """Add a line for a new event, never change one: a queue, a dead letter or an outbox may still hold it."""
    assert {fields(line)["type"] for line in RECORDED} == set(catalog())


@pytest.mark.parametrize("line", RECORDED, ids=lambda line: fields(line)["type"])
def test_a_message_that_was_recorded_is_still_read_whole(line: bytes) -> None:
    read = decode(line).event.model_dump(mode="json")

    assert read | fields(line)["data"] == read


def test_changes_keep_what_was_and_what_is() -> None:
    event = ReferralChanged(referral_id="r-1", changes={"status": ("New", "Active")}, updated_at=None)

    assert decode(encode(event)[1]).event == event


def test_an_audit_event_of_a_service_says_so() -> None:
    event = AuthAudit(
        action="auth.session.started",
        actor=Actor(kind="user", id=6, roles=["Sponsor"]),
        target=Target(kind="user", id="6"),
        request_id="request-1",
        personal={"ip": "203.0.113.9"},
        details={"Şehir": "Iğdır"},
    )

    envelope = decode(encode(event)[1])

    assert (envelope.event, envelope.publisher, envelope.subject) == (event, "auth", "user/6")


def test_an_event_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        a_user_registered().email = "other@example.com"  # type: ignore[misc]  # that is what is tried


def test_two_events_can_not_have_one_name() -> None:
    with pytest.raises(TypeError, match=r"two events are called auth\.user\.registered\.v1"):

        class Impostor(Event):
            """Pretends to be another."""

            routing_key: ClassVar[str] = UserRegistered.routing_key


GOOD = encode(a_user_registered())[1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"7",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        b"{}",
        changed(GOOD, type="auth.user.registered.v99"),
        changed(GOOD, type=None),
        changed(GOOD, type=["a"]),
        changed(GOOD, type={}),
        changed(GOOD, id="6"),
        changed(GOOD, id=6),
        changed(GOOD, id=None),
        changed(GOOD, time="yesterday"),
        changed(GOOD, time=7),
        changed(GOOD, source=None),
        changed(GOOD, source=7),
        changed(GOOD, data=None),
        changed(GOOD, data=[]),
        changed(GOOD, data={}),
        changed(GOOD, data={"user_id": "six"}),
        changed(GOOD, sequence="first"),
        changed(GOOD, sequence=[]),
        changed(GOOD, sequence=7),
        changed(GOOD, sequence=True),
        changed(GOOD, sequence="0"),
        changed(GOOD, sequence="-3"),
        changed(GOOD, sequence="1_0"),
        changed(GOOD, sequence="9" * 16),
        changed(GOOD, correlationid=7),
        changed(GOOD, time="2026-01-01T00:00:00"),
        changed(GOOD, time="0001-01-01T00:00:00+14:00"),
    ],
)
def test_what_is_no_event_of_ours_is_undecodable_with_a_reason(body: bytes) -> None:
    with pytest.raises(Undecodable) as refused:
        decode(body)

    assert str(refused.value)


def test_the_reason_shows_no_data_of_the_message() -> None:
    body = changed(GOOD, data=fields(GOOD)["data"] | {"user_id": "hunter2"})

    with pytest.raises(Undecodable) as refused:
        decode(body)

    assert "hunter2" not in str(refused.value)
    assert "user_id" in str(refused.value)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(body)


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [uuid7() for _ in range(1_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {each.version for each in made} == {7}
    assert isinstance(made[0], UUID)
