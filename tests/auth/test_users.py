"""What clients of auth see: administration of users and their grants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.events import PasswordChanged, PasswordResetRequested, SessionsRevoked, UserChanged, UserRegistered
from shared.pagination import encode_cursor
from tests.auth.conftest import OTHER_PASSWORD, PASSWORD, Auth, outcome

ADMIN, SPONSOR = "admin@example.com", "sponsor@example.com"


# --- users


async def test_only_admins_manage_users(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    sponsor_id = await auth.add(SPONSOR, "Sponsor")
    await auth.add("auditor@example.com", "Auditor")
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/users", None),
        ("POST", "/users", {"email": "x@example.com", "full_name": "X", "roles": []}),
        ("GET", f"/users/{sponsor_id}", None),
        ("PATCH", f"/users/{sponsor_id}", {"full_name": "Y"}),
        ("PUT", f"/users/{sponsor_id}/on-behalf-of", {"sponsor_ids": []}),
        ("POST", f"/users/{sponsor_id}/confirm-admin", None),
        ("POST", f"/users/{sponsor_id}/end-sessions", None),
        ("POST", f"/users/{sponsor_id}/remove-second-factor", None),
    ]
    tokens = [await auth.token_of(SPONSOR), await auth.token_of("auditor@example.com")]
    for method, path, body in calls:
        assert (await auth.call(method, path, body)).status_code == 401, path
        for token in tokens:
            assert outcome(await auth.call(method, path, body, token)) == (403, "FORBIDDEN"), path


async def test_a_new_user_chooses_the_first_password_and_nobody_else_does(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    token = await auth.token_of(ADMIN)
    new = {"email": "Mehmet@Example.com", "full_name": "Mehmet Öz", "roles": ["Sponsor"]}
    created = await auth.post("/users", new, token)
    assert created.status_code == 201, created.text
    assert (created.json()["email"], created.json()["has_password"]) == ("mehmet@example.com", False)
    assert outcome(await auth.post("/users", new | {"password": PASSWORD}, token))[0] == 422
    registered = (await auth.events(UserRegistered))[-1]
    assert (registered.user_id, registered.version) == (created.json()["id"], 1)
    assert (await auth.events(PasswordResetRequested))[-1].purpose == "first"
    await auth.deliver()
    first = auth.tokens_printed("mehmet@example.com")[-1]
    auth.clock.move(hours=23)
    assert (await auth.post("/reset-password", {"token": first, "new_password": OTHER_PASSWORD})).status_code == 200
    assert (await auth.events(PasswordChanged))[-1].how == "first"
    assert (await auth.post("/reset-password", {"token": first, "new_password": PASSWORD})).status_code == 400
    assert (await auth.login("mehmet@example.com", OTHER_PASSWORD)).status_code == 200


async def test_a_first_password_is_set_within_a_day_or_by_another_token(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.post("/users", {"email": SPONSOR, "full_name": "S", "roles": ["Sponsor"]}, await auth.token_of(ADMIN))
    await auth.deliver()
    first = auth.tokens_printed(SPONSOR)[-1]
    auth.clock.move(hours=24, seconds=1)
    late = await auth.post("/reset-password", {"token": first, "new_password": OTHER_PASSWORD})
    assert outcome(late) == (400, "RESET_TOKEN_INVALID")
    weak = {"token": await auth.reset_token(SPONSOR), "new_password": "short"}
    assert outcome(await auth.post("/reset-password", weak)) == (422, "PASSWORD_TOO_WEAK")
    assert (await auth.post("/reset-password", weak | {"new_password": OTHER_PASSWORD})).status_code == 200


async def test_an_address_belongs_to_one_user(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    new = {"email": ADMIN.upper(), "full_name": "X", "roles": ["Sponsor"]}
    assert outcome(await auth.post("/users", new, await auth.token_of(ADMIN))) == (409, "EMAIL_TAKEN")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": ["a@x.org", "b@x.org"]}, "email"),
        ({"email": "a@x.org\r\nBcc: b@x.org"}, "email"),
        ({"full_name": ""}, "full_name"),
        ({"full_name": "A\r\nB"}, "full_name"),
        ({"full_name": "A\x00B"}, "full_name"),
        ({"roles": ["Root"]}, "roles"),
        ({"roles": "Admin"}, "roles"),
        ({"is_admin": True}, "is_admin"),
    ],
)
async def test_a_bad_new_user_is_refused_with_the_field(auth: Auth, change: dict[str, Any], field: str) -> None:
    await auth.add(ADMIN, "Admin")
    new: dict[str, Any] = {"email": "new@example.com", "full_name": "New", "roles": ["Sponsor"]} | change
    answer = await auth.post("/users", new, await auth.token_of(ADMIN))
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith(field)
    assert await auth.events(UserRegistered) == []


@pytest.mark.parametrize("field", ["roles", "full_name"])
async def test_half_a_character_is_refused_with_the_field(auth: Auth, field: str) -> None:
    await auth.add(ADMIN, "Admin")
    half = {"email": "new@example.com", "full_name": "New", "roles": []} | {
        field: ["\ud800"] if field == "roles" else "\ud800"
    }
    headers = {"content-type": "application/json"}
    token = await auth.token_of(ADMIN)
    answer = await auth.call("POST", "/users", token=token, headers=headers, content=json.dumps(half).encode())
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_users_are_listed_in_pages_and_filtered(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    for number in range(5):
        await auth.add(f"player{number}@example.com", "Player", is_active=number != 3)
    token = await auth.token_of(ADMIN)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await auth.call("GET", f"/users?limit=2{f'&cursor={cursor}' if cursor else ''}", token=token)).json()
        seen += [user["email"] for user in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [ADMIN, *(f"player{number}@example.com" for number in range(5))]

    async def found(query: str) -> int:
        return len((await auth.call("GET", f"/users?{query}", token=token)).json()["items"])

    assert await found("role=Player") == 5
    assert await found("role=Player&is_active=true") == 4
    assert await found("search=PLAYER2") == 1
    assert await found("search=%25") == 0
    for bad in (
        "role=Root",
        "limit=0",
        "limit=1000",
        "cursor=rubbish",
        "cursor=WyJ4Il0",
        f"cursor={encode_cursor(2**63)}",
        f"cursor={encode_cursor(-1)}",
        "search=%00",
    ):
        assert (await auth.call("GET", f"/users?{bad}", token=token)).status_code == 422, bad
    assert outcome(await auth.call("GET", "/users/99", token=token)) == (404, "USER_NOT_FOUND")
    assert (await auth.call("GET", f"/users/{2**70}", token=token)).status_code == 422


async def test_losing_a_role_or_being_disabled_ends_the_sessions_at_once(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    account_id = await auth.add(SPONSOR, "Sponsor", "Auditor")
    chief = await auth.token_of(ADMIN)
    token = await auth.token_of(SPONSOR)
    changed = await auth.call("PATCH", f"/users/{account_id}", {"roles": ["Sponsor"]}, chief)
    assert changed.json()["roles"] == ["Sponsor"]
    assert (await auth.call("GET", "/me", token=token)).status_code == 401
    token = await auth.token_of(SPONSOR)
    disabled = await auth.call("PATCH", f"/users/{account_id}", {"status": "disabled"}, chief)
    assert (disabled.json()["is_active"], disabled.json()["status"]) == (False, "disabled")
    assert (await auth.call("GET", "/me", token=token)).status_code == 401
    assert [event.version for event in await auth.events(UserChanged)] == [2, 3]
    assert [event.reason for event in await auth.events(SessionsRevoked)] == ["roles changed", "disabled"]
    assert len(await auth.audit("auth.user.disabled")) == 1
    contradiction = {"is_active": True, "status": "disabled"}
    assert (await auth.call("PATCH", f"/users/{account_id}", contradiction, chief)).status_code == 422


async def test_who_signed_in_tens_of_thousands_of_times_is_disabled_all_the_same(auth: Auth) -> None:
    """A program that signs in for each run; its sessions are ended and told of, more of them than one event holds."""
    await auth.add(ADMIN, "Admin")
    sponsor_id = await auth.add(SPONSOR, "Sponsor")
    await auth.execute(
        """INSERT INTO sessions (id, account_id, sealed_secret, with_second_factor, created_at, used_at, expires_at)
           SELECT gen_random_uuid(), $1, '', false, now(), now(), now() + interval '1 day'
           FROM generate_series(1, 27000)""",
        sponsor_id,
    )
    await auth.execute("UPDATE sessions SET expires_at = now() WHERE id = (SELECT min(id::text)::uuid FROM sessions)")
    disabled = await auth.call("PATCH", f"/users/{sponsor_id}", {"is_active": False}, await auth.token_of(ADMIN))
    assert disabled.status_code == 200, disabled.text
    told = [each for event in await auth.events(SessionsRevoked) for each in event.session_ids]
    async with auth.context.database.connection() as conn:
        rows = await conn.fetch("SELECT id FROM sessions WHERE account_id = $1 AND ended_at IS NOT NULL", sponsor_id)
    assert (len(told), set(told)) == (26_999, {row["id"] for row in rows})


async def test_waking_an_account_wakes_no_session_of_before(auth: Auth) -> None:
    """Somebody put the account to sleep by hand in the database, which ends no session."""
    await auth.add(ADMIN, "Admin")
    account_id = await auth.add(SPONSOR, "Sponsor")
    tokens = await auth.signed_in(SPONSOR)
    await auth.execute("UPDATE adminuser SET is_active = false WHERE id = $1", account_id)
    woken = await auth.call("PATCH", f"/users/{account_id}", {"is_active": True}, await auth.token_of(ADMIN))
    assert woken.status_code == 200
    assert (await auth.call("GET", "/me", token=tokens["access_token"])).status_code == 401
    assert (await auth.post("/refresh", {"refresh_token": tokens["refresh_token"]})).status_code == 401


async def test_the_last_admin_stays_one(auth: Auth) -> None:
    admin_id = await auth.add(ADMIN, "Admin")
    await auth.add("waiting@example.com", "Admin", password=None)
    await auth.add("gone@example.com", "Admin", is_active=False)
    token = await auth.token_of(ADMIN)
    changes: list[dict[str, Any]] = [
        {"is_active": False},
        {"status": "disabled"},
        {"roles": ["Auditor"]},
        {"roles": []},
    ]
    for change in changes:
        assert outcome(await auth.call("PATCH", f"/users/{admin_id}", change, token)) == (409, "LAST_ADMIN"), change
    await auth.add("second@example.com", "Admin")
    assert (await auth.call("PATCH", f"/users/{admin_id}", {"roles": ["Auditor"]}, token)).status_code == 200


async def test_an_admin_ends_the_sessions_of_a_user(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    account_id = await auth.add(SPONSOR, "Sponsor")
    token = await auth.token_of(SPONSOR)
    assert (await auth.post(f"/users/{account_id}/end-sessions", None, await auth.token_of(ADMIN))).status_code == 200
    assert (await auth.call("GET", "/me", token=token)).status_code == 401


# --- grants


async def test_only_who_may_act_for_all_gives_grants(auth: Auth) -> None:
    await auth.add("chief@example.com", "Admin", acts_for_all=True)
    admin_id = await auth.add(ADMIN, "Admin")
    sponsor_id = await auth.add(SPONSOR, "Sponsor")
    chief, admin = await auth.token_of("chief@example.com"), await auth.token_of(ADMIN)
    path = f"/users/{admin_id}/on-behalf-of"
    assert outcome(await auth.call("PUT", path, {"sponsor_ids": "all"}, admin)) == (403, "GRANTS_NOT_YOURS")
    assert [event.outcome for event in await auth.audit("auth.grants.changed")] == ["denied"]
    granted = await auth.call("PUT", path, {"sponsor_ids": [sponsor_id]}, chief)
    assert granted.json()["on_behalf_of"] == [sponsor_id]
    assert (await auth.events(UserChanged))[-1].on_behalf_of == [sponsor_id]
    assert (await auth.call("PUT", path, {"sponsor_ids": "all"}, chief)).json()["on_behalf_of"] == "all"
    unknown = await auth.call("PUT", path, {"sponsor_ids": [sponsor_id, 424242]}, chief)
    assert outcome(unknown)[0] == 422
    assert "424242" in unknown.json()["errors"][0]["message"]
    own = f"/users/{sponsor_id}/on-behalf-of"
    assert outcome(await auth.call("PUT", own, {"sponsor_ids": []}, chief)) == (409, "NOT_AN_ADMIN")
    for bad in ("some", [0], ["6"], [1.5], None, {"a": 1}, [2**64]):
        assert (await auth.call("PUT", path, {"sponsor_ids": bad}, chief)).status_code == 422, bad


async def test_an_admin_gets_no_more_grants_than_an_access_token_can_name(auth: Auth) -> None:
    await auth.add("chief@example.com", "Admin", acts_for_all=True)
    admin_id = await auth.add(ADMIN, "Admin", "Sponsor", "Player", "Auditor")
    await auth.execute(
        """INSERT INTO adminuser (id, email, full_name, roles)
           SELECT id, id || '@example.com', 'S', ARRAY ['Sponsor'] FROM generate_series(1000001, 1001000) AS id"""
    )
    path, chief = f"/users/{admin_id}/on-behalf-of", await auth.token_of("chief@example.com")
    every = list(range(1_000_001, 1_001_001))
    refused = await auth.call("PUT", path, {"sponsor_ids": every}, chief)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "sponsor_ids"), refused.text
    assert (await auth.call("PUT", path, {"sponsor_ids": every[:625]}, chief)).status_code == 200
    me = await auth.call("GET", "/me", token=await auth.token_of(ADMIN))
    assert (me.status_code, len(me.json()["on_behalf_of"])) == (200, 625)


async def test_who_is_no_admin_any_more_holds_no_grants(auth: Auth) -> None:
    await auth.add("chief@example.com", "Admin", acts_for_all=True)
    admin_id = await auth.add(ADMIN, "Admin", acts_for_all=True)
    chief = await auth.token_of("chief@example.com")
    demoted = await auth.call("PATCH", f"/users/{admin_id}", {"roles": ["Auditor"]}, chief)
    assert demoted.json()["on_behalf_of"] == []
    again = await auth.call("PATCH", f"/users/{admin_id}", {"roles": ["Admin"]}, chief)
    assert again.json()["on_behalf_of"] == []
