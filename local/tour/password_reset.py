"""Step f: a forgotten password, exactly by the operators' runbook, with the token taken from the log."""

from __future__ import annotations

import re
import secrets
from typing import Final

from local.tour.guide import OK, Guide

REQUEST: Final = "/api/v1/auth/request-password-reset"
RESET: Final = "/api/v1/auth/reset-password"
LOGIN: Final = "/api/v1/auth/login"


def reset_password(guide: Guide) -> None:
    """Reset the auditor's password: generic answer, token from the log, reset, sign-in."""
    account = guide.stack["accounts"]["auditor"]
    visitor = guide.visitor()
    answer = guide.call(visitor, "POST", REQUEST, json={"email": account["email"]})
    guide.remember("reset request", answer)
    guide.check("status", answer.status_code, OK)
    nobody = guide.call(visitor, "POST", REQUEST, json={"email": "nobody@example.com"})
    guide.check_that(
        "the answer for an unknown address is the same, byte for byte", holds=nobody.content == answer.content
    )

    token = _token_from_log(guide, account["email"])
    password = secrets.token_urlsafe(18)
    done = guide.call(visitor, "POST", RESET, json={"token": token, "new_password": password})
    guide.remember("reset", done)
    guide.check("the reset", [done.status_code, done.json()["success"]], [OK, True])

    again = guide.call(visitor, "POST", RESET, json={"token": token, "new_password": secrets.token_urlsafe(18)})
    guide.check("the same token once more", [again.status_code, again.json()["code"]], [400, "RESET_TOKEN_INVALID"])
    old = guide.call(visitor, "POST", LOGIN, json={"email": account["email"], "password": account["password"]})
    guide.check("the old password", old.status_code, 401)
    new = guide.call(visitor, "POST", LOGIN, json={"email": account["email"], "password": password})
    guide.check("the new password", new.status_code, OK)
    account["password"] = password
    guide.forget("auditor")


def _token_from_log(guide: Guide, email: str) -> str:
    line = re.compile(rf"\[Password Reset\] Token for {re.escape(email)}: (\S+)")

    def find() -> str | None:
        found = [match[1] for text in guide.log_lines("auth-worker") if (match := line.search(text))]
        return found[-1] if found else None

    token = guide.wait_for("the reset token in the auth worker's log", find)
    guide.teller.saw(f"in the auth worker's log: [Password Reset] Token for {email}: {token[:6]}…")
    return token
