"""The broker's users, made over its own HTTP interface by whoever administers it. Safe to run again."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx

log = logging.getLogger(__name__)

_TRY_SECONDS: Final = 2.0


class ManagementRefused(SystemExit):
    """The broker's management does not do what it is asked for."""


def import_definitions(
    url: str, sign_in: tuple[str, str], definitions: Mapping[str, Any], *, wait_seconds: float = 60.0
) -> None:
    """Bring definitions into the broker at this address of its management; waits for one that is not up yet.

    Users that exist get the password and rights given here; connections that they have go on.
    """
    deadline = time.monotonic() + wait_seconds
    with httpx.Client(base_url=url, auth=sign_in, timeout=10, trust_env=False) as client:
        while True:
            try:
                answer = client.post("/api/definitions", json=definitions)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    return
                if answer.status_code == HTTPStatus.UNAUTHORIZED:
                    raise ManagementRefused("The broker's management does not know this user or its password.")
                reason = f"{answer.status_code} {answer.text.strip()[:500]}"
                if answer.is_client_error:
                    raise ManagementRefused(f"The broker's management refused the definitions: {reason}")
            if time.monotonic() > deadline:
                raise ManagementRefused(f"The broker's management at {url} is not available ({reason}).")
            log.info("the broker's management is not there yet: %s", reason)
            time.sleep(_TRY_SECONDS)
