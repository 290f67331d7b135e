"""Refusals as answers: the same problem+json that the services send."""

from __future__ import annotations

from services.gateway.domain.headers import Header
from shared import telemetry, web
from shared.errors import Failure


def refusal_answer(failure: Failure, request_id: str) -> tuple[int, list[Header], bytes]:
    """Give status, headers and body of a refusal."""
    with telemetry.use(telemetry.Trace(request_id)):
        response = web.problem(failure)
    return response.status_code, response.raw_headers, bytes(response.body)
