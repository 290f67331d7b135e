"""Log lines as JSON, and the thread that ties a request to its events, log lines and audit records.

A request id enters at the gateway, travels in the envelope of each event as `correlationid`, and is on each log line
and audit record that the request caused, in whatever process.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

_SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# Ids of requests and spans are names and no secrets, so none of them costs a system call of its own.
_names: Final = random.Random()
os.register_at_fork(after_in_child=_names.seed)
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@dataclass(frozen=True, slots=True)
class Trace:
    """Where the work at hand comes from."""

    request_id: str
    causation_id: str | None = None
    traceparent: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    path: str | None = None


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current() -> Trace:
    """Give the trace of the work at hand; work that nobody asked for (a schedule) gets one of its own."""
    trace = _current.get()
    if trace is None:
        trace = Trace(request_id=new_request_id(), traceparent=new_traceparent())
        _current.set(trace)
    return trace


@contextmanager
def use(trace: Trace) -> Iterator[Trace]:
    """Tie what happens inside to this trace."""
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)


def operator_name() -> str:
    """Name the operating system's user who runs a command; a container's may have no name, but always a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def new_request_id() -> str:
    """Make a request id."""
    return f"{_names.getrandbits(128):032x}"


def sane_request_id(text: str | None) -> str:
    """Keep the client's request id if it is harmless in headers and log lines, else make one."""
    return text if text and _SANE_REQUEST_ID.fullmatch(text) else new_request_id()


def new_traceparent() -> str:
    """Start a W3C trace."""
    return f"00-{_names.getrandbits(128):032x}-{_names.getrandbits(64):016x}-01"


def next_traceparent(parent: str | None) -> str:
    """Go on with the trace of the caller under a span of our own, or start one."""
    if parent is None or not _TRACEPARENT.fullmatch(parent):
        return new_traceparent()
    return f"{parent[:36]}{_names.getrandbits(64):016x}{parent[52:]}"


class _JsonLines(logging.Formatter):
    """One JSON object per line; Turkish and emoji stay readable, line breaks can't forge a second line."""

    def __init__(self, service: str, role: str) -> None:
        super().__init__()
        self._fixed = {"service": service, "role": role}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **self._fixed,
            "logger": record.name,
        }
        if trace := _current.get():
            line["request_id"] = trace.request_id
            if trace.causation_id:
                line["event_id"] = trace.causation_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # What a caller adds can't pretend to be another service or request.
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD | line.keys()}
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except orjson.JSONEncodeError:  # half of a surrogate pair, a number of more than 64 bits
            return json.dumps(line, default=str, ensure_ascii=False).encode(errors="replace").decode()


def configure_logging(service: str, role: str, level: str = "INFO") -> None:
    """Send every log line of this process to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines(service, role))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # These report each request or reconnect by themselves; our own lines say the same with request ids.
    for noisy in ("httpx", "aiormq", "aio_pika"):
        logging.getLogger(noisy).setLevel(os.environ.get("LOG_LEVEL_LIBRARIES", "ERROR"))
