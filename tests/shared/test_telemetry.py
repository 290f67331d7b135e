"""One JSON object per log line, whatever is in it; and the thread that ties a request to all that it causes."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from shared import telemetry
from shared.telemetry import Trace

log = logging.getLogger("tests.telemetry")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    root.handlers.clear()
    monkeypatch.setattr("sys.stdout", stream)
    telemetry.configure_logging("invitations", "worker")
    yield stream
    root.handlers[:], root.level = before


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    found: dict[str, Any] = orjson.loads(line)
    return found


def test_a_line_says_when_who_and_what(lines: io.StringIO) -> None:
    log.warning("job %d is late", 7)

    line = only_line(lines)

    assert (line["level"], line["service"], line["role"]) == ("warning", "invitations", "worker")
    assert (line["logger"], line["message"]) == ("tests.telemetry", "job 7 is late")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])


@pytest.mark.parametrize(
    "nasty", ["\n", "\r\n", "\u2028", "\u0085", "\x0b", "\x1b[31m", '"}\n{"level":"critical"', "\x00"]
)
def test_text_of_a_client_can_not_forge_a_second_line(lines: io.StringIO, nasty: str) -> None:
    log.info("sign-in of %s", f"deniz{nasty}admin", extra={"agent": f"curl{nasty}"})

    raw = lines.getvalue()

    assert raw.count("\n") == 1
    assert raw.endswith("\n")
    assert orjson.loads(raw)["message"] == f"sign-in of deniz{nasty}admin"
    assert orjson.loads(raw)["agent"] == f"curl{nasty}"


def test_turkish_and_emoji_stay_readable(lines: io.StringIO) -> None:
    log.info("Şeker Çiftçi Iğdır 🌾")

    assert "Şeker Çiftçi Iğdır 🌾" in lines.getvalue()


def test_half_of_a_surrogate_pair_does_not_lose_the_line(lines: io.StringIO) -> None:
    log.info("name %s", "\ud83c")

    assert only_line(lines)["message"].startswith("name ")


def test_an_exception_is_one_field_of_the_line(lines: io.StringIO) -> None:
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        log.exception("counting failed")

    line = only_line(lines)

    assert "ZeroDivisionError" in line["exception"]
    assert line["message"] == "counting failed"


def test_extra_facts_are_fields_and_anything_can_be_one(lines: io.StringIO) -> None:
    log.info("done", extra={"count": 3, "what": {"a", "b"}, "by": {1: object}})

    line = only_line(lines)

    assert line["count"] == 3
    assert isinstance(line["what"], str)


def test_extra_facts_can_not_pretend_to_be_another_service_or_request(lines: io.StringIO) -> None:
    with telemetry.use(Trace("request-1")):
        log.info("done", extra={"service": "auth", "level": "critical", "request_id": "request-2"})

    line = only_line(lines)

    assert (line["service"], line["level"], line["request_id"]) == ("invitations", "info", "request-1")


def test_a_line_carries_the_request_and_the_event_that_caused_it(lines: io.StringIO) -> None:
    with telemetry.use(Trace("request-1", causation_id="event-9")):
        log.info("handled")

    line = only_line(lines)

    assert (line["request_id"], line["event_id"]) == ("request-1", "event-9")


def test_a_line_outside_any_request_has_no_request_id(lines: io.StringIO) -> None:
    contextvars.Context().run(log.info, "started")

    assert "request_id" not in only_line(lines)


async def test_two_requests_at_once_keep_their_own_traces() -> None:
    async def work(name: str) -> str:
        with telemetry.use(Trace(name)):
            await asyncio.sleep(0)
            return telemetry.current().request_id

    assert list(await asyncio.gather(work("one"), work("two"))) == ["one", "two"]


def test_work_that_nobody_asked_for_has_one_trace_of_its_own() -> None:
    assert telemetry.current().request_id == telemetry.current().request_id


@pytest.mark.parametrize("good", ["a", "req-1", "01890a5d-ac96-774b-bcce-b302099a8057", "A.b_c:d-9", "x" * 128])
def test_a_sane_request_id_is_kept(good: str) -> None:
    assert telemetry.sane_request_id(good) == good


@pytest.mark.parametrize("bad", [None, "", "x" * 129, "a b", "a\nb", "a\n", "<script>", "çay", "a,b", "a\x00"])
def test_any_other_request_id_is_replaced(bad: str | None) -> None:
    made = telemetry.sane_request_id(bad)

    assert made != bad
    assert re.fullmatch(r"[0-9a-f]{32}", made)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_trace_goes_on_under_a_span_of_our_own() -> None:
    following = telemetry.next_traceparent(f"00-{TRACE}-00f067aa0ba902b7-01")

    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", following)
    assert "00f067aa0ba902b7" not in following


@pytest.mark.parametrize(
    "bad", [None, "", "00-xyz", f"00-{TRACE}-00f067aa0ba902b7-01\n", f"00-{TRACE.upper()}-00f067aa0ba902b7-01"]
)
def test_a_malformed_trace_is_followed_by_a_new_one(bad: str | None) -> None:
    following = telemetry.next_traceparent(bad)

    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", following)
    assert TRACE not in following


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert telemetry.operator_name() == f"uid {os.getuid()}"
