"""What can't be recorded does not happen: an act and its evidence are one transaction."""

from __future__ import annotations

from typing import Any

import pytest

from tests.auth.conftest import OTHER_PASSWORD, PASSWORD, Auth
from tests.support.evidence import refused_evidence

ADMIN, USER = "admin@example.com", "user@example.com"
# Method, path, body; whether the admin does it, or the user.
ACTS: list[tuple[str, str, dict[str, Any] | None, bool]] = [
    ("POST", "/login", {"email": USER, "password": PASSWORD}, False),
    ("POST", "/logout", None, False),
    ("POST", "/change-password", {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}, False),
    ("POST", "/second-factor", {"password": PASSWORD}, False),
    ("POST", "/request-password-reset", {"email": USER}, False),
    ("POST", "/reset-password", {"token": "{token}", "new_password": OTHER_PASSWORD}, False),
    ("POST", "/cancel-password-reset", {"token": "{token}"}, False),
    ("POST", "/users", {"email": "new@example.com", "full_name": "New", "roles": ["Player"]}, True),
    ("PATCH", "/users/{user}", {"roles": ["Player"]}, True),
    ("PATCH", "/users/{user}", {"is_active": False}, True),
    ("PUT", "/users/{admin}/on-behalf-of", {"sponsor_ids": []}, True),
    ("POST", "/users/{user}/end-sessions", None, True),
]


@pytest.mark.parametrize(("method", "path", "body", "is_admin"), ACTS, ids=lambda value: str(value)[:40])
async def test_an_act_that_can_not_be_recorded_does_not_happen(
    auth: Auth, method: str, path: str, body: dict[str, Any] | None, is_admin: bool
) -> None:
    ids = {"admin": await auth.add(ADMIN, "Admin", acts_for_all=True), "user": await auth.add(USER, "Sponsor")}
    admin, user, token = await auth.token_of(ADMIN), await auth.token_of(USER), await auth.reset_token(USER)
    said = {name: token if value == "{token}" else value for name, value in (body or {}).items()} or None
    caller = admin if is_admin else user
    # Whoever types the current password gets a counter of failures, which says zero.
    async with refused_evidence(auth.fresh, but="throttles"):
        refused = await auth.call(method, path.format(**ids), said, caller)
        assert refused.status_code == 500, refused.text
    happened = await auth.call(method, path.format(**ids), said, caller)
    assert happened.is_success, happened.text
