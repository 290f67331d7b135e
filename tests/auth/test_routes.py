"""What clients of auth see: signing in and sessions."""

from __future__ import annotations

from uuid import uuid4

import pytest
from argon2 import PasswordHasher

from services.auth.app import create_app
from services.auth.commands.keys import reseal_keys
from services.auth.context import make_context
from services.auth.settings import AuthSettings
from shared.events import SessionsRevoked
from shared.sealing import Sealer
from tests.auth.conftest import API, PASSWORD, Auth, comparable, outcome, settings_for
from tests.support.asgi import calling

ADMIN, SPONSOR = "admin@example.com", "sponsor@example.com"


# --- signing in


async def test_signing_in_gives_tokens_and_says_who_it_is(auth: Auth) -> None:
    account_id = await auth.add(ADMIN, "Admin")
    answer = await auth.login(ADMIN)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 600)
    assert (body["user"]["id"], body["user"]["roles"]) == (account_id, ["Admin"])
    assert "users:manage" in body["user"]["permissions"]
    me = await auth.call("GET", "/me", token=body["access_token"])
    assert me.json()["email"] == ADMIN
    signed_in = (await auth.audit("auth.sign_in"))[-1]
    assert (signed_in.outcome, signed_in.actor.id, signed_in.actor.kind) == ("success", account_id, "admin")


async def test_every_failure_to_sign_in_looks_the_same(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.add("inactive@example.com", "Admin", is_active=False)
    await auth.add("disabled@example.com", "Admin", status="disabled")
    await auth.add("no-password@example.com", "Admin", password=None)
    await auth.add("locked@example.com", "Admin")
    for _ in range(10):
        await auth.login("locked@example.com", "wrong password")
    answers = [
        await auth.login(ADMIN, "wrong password"),
        await auth.login("nobody@example.com"),
        await auth.login("inactive@example.com"),
        await auth.login("disabled@example.com"),
        await auth.login("no-password@example.com"),
        await auth.login("locked@example.com"),
        await auth.login("not an address"),
        await auth.login("\u0131\ufb01@example.com"),
        await auth.login(ADMIN, "x" * 1_000),
    ]
    assert {outcome(answer) for answer in answers} == {(401, "INVALID_CREDENTIALS")}
    assert all(comparable(answer) == comparable(answers[0]) for answer in answers)


async def test_signing_in_does_not_mind_the_case_of_the_address_nor_the_form_of_the_letters(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin", password="caf\u00e9 lantern quiver mosaic")
    assert (await auth.login("Admin@Example.COM", "cafe\u0301 lantern quiver mosaic")).status_code == 200


async def test_ten_wrong_passwords_bring_a_pause_that_ends_by_itself(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    for _ in range(9):
        await auth.login(ADMIN, "wrong password")
    assert (await auth.login(ADMIN)).status_code == 200, "nine are free, and success forgets them"
    for _ in range(10):
        await auth.login(ADMIN, "wrong password")
    assert (await auth.login(ADMIN)).status_code == 401
    auth.clock.move(seconds=31)
    assert (await auth.login(ADMIN)).status_code == 200
    outcomes = [event.outcome for event in await auth.audit("auth.sign_in")]
    assert outcomes.count("denied") == 1


async def test_an_unknown_address_is_paused_like_a_known_one(auth: Auth) -> None:
    for _ in range(11):
        await auth.login("nobody@example.com")
    reasons = [event.reason for event in await auth.audit("auth.sign_in")]
    assert reasons == ["unknown address"] * 10 + ["paused"]


async def test_the_password_is_hashed_anew_when_the_parameters_changed(auth: Auth) -> None:
    account_id = await auth.add(ADMIN, "Admin")
    await auth.execute("UPDATE adminuser SET password_hash = $1", old_hash())
    assert (await auth.login(ADMIN)).status_code == 200
    assert "m=64" in (await auth.row(account_id))["password_hash"]
    assert (await auth.login(ADMIN)).status_code == 200


async def test_a_pause_hashes_nothing_anew_for_the_time_of_it_would_tell_a_right_guess(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.execute("UPDATE adminuser SET password_hash = $1", old_hash())
    for _ in range(10):
        await auth.login(ADMIN, "wrong password")
    hashed: list[str | bytes] = []

    class Counting(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            hashed.append(password)
            return super().hash(password, salt=salt)

    monkeypatch.setattr(auth.context.hasher, "_argon2", Counting(time_cost=1, memory_cost=64, parallelism=1))
    assert (await auth.login(ADMIN)).status_code == 401
    assert hashed == []
    auth.clock.move(seconds=31)
    assert (await auth.login(ADMIN)).status_code == 200
    assert hashed == [PASSWORD]


def old_hash() -> str:
    return PasswordHasher(time_cost=1, memory_cost=32, parallelism=1).hash(PASSWORD)


# --- sessions


async def test_a_refresh_gives_new_tokens_for_the_same_session(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    first = await auth.signed_in(ADMIN)
    second = (await auth.post("/refresh", {"refresh_token": first["refresh_token"]})).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert len((await auth.call("GET", "/sessions", token=second["access_token"])).json()["items"]) == 1


async def test_a_lost_answer_may_be_asked_for_again_within_the_grace(auth: Auth) -> None:
    auth.clock.hold()
    await auth.add(ADMIN, "Admin")
    first = (await auth.signed_in(ADMIN))["refresh_token"]
    second, again = [(await auth.post("/refresh", {"refresh_token": first})).json()["refresh_token"] for _ in range(2)]
    assert second == again
    third = (await auth.post("/refresh", {"refresh_token": second})).json()["refresh_token"]
    assert (await auth.post("/refresh", {"refresh_token": first})).json()["refresh_token"] == third


async def test_a_refresh_token_that_comes_back_after_the_grace_ends_the_session(auth: Auth) -> None:
    account_id = await auth.add(ADMIN, "Admin")
    first = await auth.signed_in(ADMIN)
    second = (await auth.post("/refresh", {"refresh_token": first["refresh_token"]})).json()
    await auth.execute("UPDATE refresh_tokens SET spent_at = spent_at - interval '11 seconds'")
    assert outcome(await auth.post("/refresh", {"refresh_token": first["refresh_token"]}))[0] == 401
    assert outcome(await auth.post("/refresh", {"refresh_token": second["refresh_token"]}))[0] == 401
    assert outcome(await auth.call("GET", "/me", token=second["access_token"])) == (401, "SESSION_ENDED")
    assert [event.target.id for event in await auth.audit("auth.refresh.reused") if event.target] == [str(account_id)]
    assert (await auth.events(SessionsRevoked))[-1].reason == "refresh token reused"


async def test_a_signed_out_refresh_token_is_no_theft(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    tokens = await auth.signed_in(ADMIN)
    assert (await auth.post("/logout", token=tokens["access_token"])).status_code == 200
    assert outcome(await auth.post("/refresh", {"refresh_token": tokens["refresh_token"]}))[0] == 401
    assert outcome(await auth.call("GET", "/me", token=tokens["access_token"])) == (401, "SESSION_ENDED")
    assert await auth.audit("auth.refresh.reused") == []


async def test_a_session_whose_secret_key_was_dropped_is_over_and_a_wrong_key_ends_none(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    tokens = await auth.signed_in(ADMIN)
    renewal = {"refresh_token": tokens["refresh_token"]}
    old, newest = b"partner-hub development only key", b"n" * 32
    object.__setattr__(auth.context, "sealer", Sealer([newest]))
    assert (await auth.post("/refresh", renewal)).status_code == 500, "nothing opens with this key"
    async with auth.context.database.transaction() as conn:
        await reseal_keys(conn, Sealer([newest, old]))
    assert outcome(await auth.post("/refresh", renewal)) == (401, "REFRESH_TOKEN_INVALID")
    assert (await auth.login(ADMIN)).status_code == 200


@pytest.mark.parametrize("column", ["used_at = used_at - interval '61 minutes'", "expires_at = now()"])
async def test_idle_and_old_sessions_are_over(auth: Auth, column: str) -> None:
    await auth.add(ADMIN, "Admin")
    tokens = await auth.signed_in(ADMIN)
    await auth.execute(f"UPDATE sessions SET {column}")  # noqa: S608  the two above
    assert outcome(await auth.post("/refresh", {"refresh_token": tokens["refresh_token"]}))[0] == 401
    assert outcome(await auth.call("GET", "/me", token=tokens["access_token"])) == (401, "SESSION_ENDED")


async def test_an_access_token_never_outlives_its_session(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    tokens = await auth.signed_in(ADMIN)
    await auth.execute("UPDATE sessions SET expires_at = now() + interval '300 seconds'")
    refreshed = (await auth.post("/refresh", {"refresh_token": tokens["refresh_token"]})).json()
    assert 200 < refreshed["expires_in"] <= 300


async def test_people_see_and_end_their_own_sessions_only(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.add(SPONSOR, "Sponsor")
    here = await auth.token_of(ADMIN)
    there = await auth.token_of(ADMIN)
    stranger = await auth.token_of(SPONSOR)
    sessions = (await auth.call("GET", "/sessions", token=here)).json()["items"]
    assert sorted(session["is_current"] for session in sessions) == [False, True]
    other = next(session["id"] for session in sessions if not session["is_current"])
    assert outcome(await auth.call("DELETE", f"/sessions/{other}", token=stranger)) == (404, "SESSION_NOT_FOUND")
    assert (await auth.call("DELETE", f"/sessions/{other}", token=here)).status_code == 200
    assert (await auth.call("GET", "/me", token=there)).status_code == 401
    assert (await auth.call("GET", "/me", token=here)).status_code == 200
    assert outcome(await auth.call("DELETE", f"/sessions/{uuid4()}", token=here)) == (404, "SESSION_NOT_FOUND")
    assert (await auth.call("DELETE", "/sessions/rubbish", token=here)).status_code == 422


async def test_a_session_that_lay_idle_is_not_listed_any_more(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.token_of(ADMIN)
    await auth.execute("UPDATE sessions SET used_at = used_at - interval '61 minutes'")
    here = await auth.token_of(ADMIN)
    sessions = (await auth.call("GET", "/sessions", token=here)).json()["items"]
    assert [session["is_current"] for session in sessions] == [True]


async def test_signing_out_everywhere_ends_all_sessions_and_tells_the_gateway(auth: Auth) -> None:
    account_id = await auth.add(ADMIN, "Admin")
    tokens = [await auth.token_of(ADMIN) for _ in range(3)]
    assert (await auth.post("/logout-all", token=tokens[0])).status_code == 200
    assert [(await auth.call("GET", "/me", token=token)).status_code for token in tokens] == [401] * 3
    revoked = (await auth.events(SessionsRevoked))[-1]
    assert (revoked.user_id, len(revoked.session_ids)) == (account_id, 3)


# --- the door itself


async def test_public_keys_may_be_cached_and_hold_nothing_private(auth: Auth) -> None:
    answer = await auth.client.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert [set(key) for key in answer.json()["keys"]] == [{"kty", "crv", "x", "kid", "use", "alg"}]


async def test_without_its_database_auth_lets_nobody_in_and_says_when_to_come_again(auth: Auth) -> None:
    away = make_context(AuthSettings(database_url="postgresql://auth:x@127.0.0.1:1/x", amqp_url="amqp://127.0.0.1:1"))
    await auth.add(ADMIN, "Admin")
    token = {"authorization": f"Bearer {await auth.token_of(ADMIN)}"}
    async with calling(create_app(settings_for(auth.fresh), away)) as client:
        answers = [
            await client.post(f"{API}/login", json={"email": ADMIN, "password": PASSWORD}),
            await client.post(f"{API}/refresh", json={"refresh_token": "x"}),
            await client.post(f"{API}/request-password-reset", json={"email": ADMIN}),
            await client.post(f"{API}/reset-password", json={"token": "x", "new_password": PASSWORD}),
            await client.get(f"{API}/me", headers=token),
            await client.get("/.well-known/jwks.json"),
        ]
        assert (await client.get("/readyz")).status_code == 503
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
