"""A service that tells what reached it, and how problems look."""

from __future__ import annotations

from typing import Any

import httpx

from tests.gateway.raw import Line

OPEN = "/api/v1/auth/login"
CLOSED = "/api/referrals"


async def record(line: Line) -> None:
    """Answer every request with its own head."""
    while True:
        head = await line.head()
        lowered = head.lower()
        if b"content-length: " in lowered:
            await line.reader.readexactly(int(lowered.split(b"content-length: ")[1].split(b"\r\n")[0]))
        body = head.replace(b"\r\n", b"\n")
        await line.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: secret/1\r\nx-request-id: other\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )


def seen(answer: httpx.Response) -> dict[str, str]:
    """Read which headers reached the service."""
    lines = answer.text.strip().split("\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["success"] is False
    assert problem["message"] == problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title"} <= problem.keys()
    return problem
