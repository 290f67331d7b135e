"""Break-glass, what is forgotten in time, and the operator's terminal."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest

from services.auth.commands.emergency import Emergency, break_glass, end_temporary_admins
from services.auth.commands.housekeeping import forget_old
from services.auth.domain.errors import BreakGlassRefused
from services.auth.domain.sessions import refresh_token_hash
from shared.errors import Failure
from shared.events import UserChanged, UserRegistered
from tests.auth.conftest import OTHER_PASSWORD, PASSWORD, Auth
from tests.auth.test_settings import run

ADMIN, BOSS = "admin@example.com", "boss@example.com"


async def broken(auth: Auth, email: str = BOSS, **more: Any) -> str | Failure:
    """Break the glass."""
    case = Emergency(email, "nobody can sign in", "root", "db-host", **more)
    async with auth.context.database.transaction() as conn:
        return await break_glass(conn, auth.context.sealer, auth.context.rules, case, now=auth.clock())


async def boss_token(auth: Auth, reset: str | Failure, password: str = OTHER_PASSWORD) -> str:
    """Use what break-glass gave, as the runbook says."""
    answer = await auth.post("/reset-password", {"token": reset, "new_password": password})
    assert answer.status_code == 200, answer.text
    return await auth.token_of(BOSS, password)


async def expire(auth: Auth) -> int:
    async with auth.context.database.transaction() as conn:
        return await end_temporary_admins(conn, now=auth.clock())


# --- break-glass


async def test_break_glass_makes_an_admin_where_there_is_none(auth: Auth) -> None:
    token = await boss_token(auth, await broken(auth))
    assert (await auth.call("GET", "/users", token=token)).status_code == 200
    me = (await auth.call("GET", "/me", token=token)).json()
    assert (me["roles"], me["on_behalf_of"]) == (["Admin"], "all")
    assert me["admin_until"] is not None
    assert (await auth.events(UserRegistered))[-1].email == BOSS
    used = (await auth.audit("auth.break_glass.used"))[-1]
    assert (used.severity, used.actor.kind, used.reason) == ("critical", "operator", "nobody can sign in")
    assert used.details["os_user"] == "root"
    assert used.details["host"] == "db-host"


async def test_its_token_works_once_and_for_half_an_hour(auth: Auth) -> None:
    reset = await broken(auth)
    await boss_token(auth, reset)
    again = await auth.post("/reset-password", {"token": reset, "new_password": PASSWORD})
    assert again.status_code == 400
    late = await broken(auth, "late@example.com", force=True)
    auth.clock.move(minutes=31)
    assert (await auth.post("/reset-password", {"token": late, "new_password": PASSWORD})).status_code == 400


async def test_it_refuses_while_an_admin_could_sign_in_and_leaves_evidence(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    assert isinstance(await broken(auth), BreakGlassRefused)
    assert [event.severity for event in await auth.audit("auth.break_glass.refused")] == ["critical"]
    assert isinstance(await broken(auth, force=True), str)


async def test_it_refuses_while_an_admin_of_a_day_could_sign_in(auth: Auth) -> None:
    await boss_token(auth, await broken(auth))
    assert isinstance(await broken(auth, ADMIN), BreakGlassRefused)
    auth.clock.move(hours=24)
    assert isinstance(await broken(auth, ADMIN), str), "the day is over"


async def test_a_token_that_was_never_used_is_replaced_by_another_one(auth: Auth) -> None:
    lost, found = await broken(auth), await broken(auth)
    assert (await auth.post("/reset-password", {"token": lost, "new_password": PASSWORD})).status_code == 400
    await boss_token(auth, found)


async def test_an_admin_of_a_day_who_is_alone_stays_one(auth: Auth) -> None:
    token = await boss_token(auth, await broken(auth))
    path = f"/users/{await auth.id_of(BOSS)}"
    for change in ({"roles": ["Auditor"]}, {"is_active": False}):
        assert (await auth.call("PATCH", path, change, token)).json()["code"] == "LAST_ADMIN"
    waiting = await auth.add("waiting@example.com", "Admin", password=None)
    assert (await auth.call("PATCH", f"/users/{waiting}", {"is_active": False}, token)).status_code == 200
    await boss_token(auth, await broken(auth, force=True), "another otter lantern quiver")
    await auth.add(ADMIN, "Admin")
    assert (await auth.call("PATCH", path, {"roles": []}, await auth.token_of(ADMIN))).status_code == 200


async def test_who_holds_all_grants_for_an_hour_more_is_nobody_who_could_give_them(auth: Auth) -> None:
    """A worker has not yet ended an admin whose day is over."""
    await broken(auth)
    auth.clock.move(hours=24)
    await broken(auth, ADMIN)
    assert (await auth.row(await auth.id_of(ADMIN)))["acts_for_all"] is True


@pytest.mark.parametrize(
    "state",
    [{"is_active": False}, {"status": "disabled"}, {"password": None}],
    ids=["inactive", "disabled", "no password"],
)
async def test_an_admin_who_cannot_sign_in_does_not_count(auth: Auth, state: dict[str, Any]) -> None:
    await auth.add(ADMIN, "Admin", **state)
    assert isinstance(await broken(auth), str)


async def test_the_role_ends_after_a_day_whether_or_not_the_worker_runs(auth: Auth) -> None:
    token = await boss_token(auth, await broken(auth))
    account_id = (await auth.call("GET", "/me", token=token)).json()["id"]
    await auth.execute("UPDATE adminuser SET admin_until = now() - interval '1 second'")
    assert (await auth.call("GET", "/users", token=token)).status_code == 401, "by the clock alone"
    assert await expire(auth) == 1
    assert await expire(auth) == 0
    row = await auth.row(account_id)
    assert (row["roles"], row["is_active"], row["acts_for_all"], row["admin_until"]) == ([], False, False, None)
    assert (await auth.events(UserChanged))[-1].is_active is False
    assert len(await auth.audit("auth.break_glass.ended")) == 1
    assert (await auth.login(BOSS, OTHER_PASSWORD)).status_code == 401


async def test_no_token_of_the_temporary_admin_outlives_the_role(auth: Auth) -> None:
    """Other services go by the token alone, also while nothing tells them that the day is over."""
    await boss_token(auth, await broken(auth))
    await auth.execute("UPDATE adminuser SET admin_until = now() + interval '300 seconds'")
    assert 200 < (await auth.signed_in(BOSS, OTHER_PASSWORD))["expires_in"] <= 300


async def test_a_device_that_is_signed_in_somewhere_does_not_become_an_admins(auth: Auth) -> None:
    await auth.add(BOSS, "Sponsor")
    elsewhere = await auth.signed_in(BOSS)
    await broken(auth)
    assert (await auth.call("GET", "/me", token=elsewhere["access_token"])).status_code == 401
    refused = await auth.post("/refresh", {"refresh_token": elsewhere["refresh_token"]})
    assert refused.json()["code"] == "REFRESH_TOKEN_INVALID"


async def test_who_was_somebody_before_stays_that_after_the_day(auth: Auth) -> None:
    account_id = await auth.add(BOSS, "Sponsor")
    await boss_token(auth, await broken(auth))
    auth.clock.move(hours=24)
    assert await expire(auth) == 1
    row = await auth.row(account_id)
    assert (row["roles"], row["is_active"]) == (["Sponsor"], True)


async def test_a_second_admin_whose_role_lasts_confirms(auth: Auth) -> None:
    token = await boss_token(auth, await broken(auth))
    boss_id = (await auth.call("GET", "/me", token=token)).json()["id"]
    path = f"/users/{boss_id}/confirm-admin"
    assert (await auth.post(path, token=token)).json()["code"] == "CONFIRMATION_BY_SELF"
    await auth.add(ADMIN, "Admin")
    confirmed = await auth.post(path, token=await auth.token_of(ADMIN))
    assert confirmed.status_code == 200
    assert confirmed.json()["admin_until"] is None
    auth.clock.move(hours=25)
    assert await expire(auth) == 0
    assert (await auth.post(path, token=await auth.token_of(ADMIN))).status_code == 401, "the clock is a day ahead"


async def test_two_temporary_admins_cannot_confirm_each_other(auth: Auth) -> None:
    token = await boss_token(auth, await broken(auth))
    await broken(auth, ADMIN, force=True)
    other = await auth.id_of(ADMIN)
    assert (await auth.post(f"/users/{other}/confirm-admin", token=token)).json()["code"] == "CONFIRMATION_BY_SELF"


async def test_a_lost_telephone_does_not_lock_the_emergency_out(auth: Auth) -> None:
    account_id = await auth.add(BOSS, "Admin")
    token = await auth.token_of(BOSS)
    seed = (await auth.post("/second-factor", {"password": PASSWORD}, token)).json()["secret"]
    await auth.post("/second-factor/confirm", {"code": pyotp.TOTP(seed).at(auth.clock())}, token)
    kept = await broken(auth, force=True)
    await auth.post("/reset-password", {"token": kept, "new_password": OTHER_PASSWORD})
    assert (await auth.login(BOSS, OTHER_PASSWORD)).json()["code"] == "SECOND_FACTOR_REQUIRED"
    await boss_token(auth, await broken(auth, force=True, drop_second_factor=True), "another otter lantern quiver")
    assert (await auth.row(account_id))["totp_sealed"] is None


# --- housekeeping


async def test_what_is_long_over_is_forgotten_and_what_may_come_back_is_not(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    tokens = await auth.signed_in(ADMIN)
    await auth.login(ADMIN, "wrong password")

    async def forget() -> None:
        async with auth.context.database.transaction() as conn:
            await forget_old(conn, auth.context.rules, keep_sessions=timedelta(days=7), now=auth.clock())

    async def counts() -> list[int]:
        async with auth.context.database.connection() as conn:
            return [
                await conn.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608  the three below
                for table in ("sessions", "refresh_tokens", "throttles")
            ]

    auth.clock.move(hours=23)
    await forget()
    assert await counts() == [1, 1, 1]
    auth.clock.move(days=8)
    await forget()
    assert await counts() == [0, 0, 0]
    assert refresh_token_hash(tokens["refresh_token"])


# --- the operator's terminal


async def command(auth: Auth, *arguments: str, **environment: str) -> Any:
    """Run a command of auth against the test's database, with no broker anywhere."""
    known = {"AUTH_DATABASE_URL": auth.fresh.url, "OWNER_DATABASE_URL": auth.fresh.owner_url}
    return await asyncio.to_thread(run, *arguments, environment=known | environment)


async def test_an_operator_breaks_the_glass_with_the_database_alone(auth: Auth) -> None:
    glass = ("break-glass", "--email", BOSS, "--reason", "nobody can sign in")
    short = await command(auth, *glass, AUTH_RESET_TOKEN_SECONDS="600")
    assert "within 10 minutes" in short.stdout
    ended = await command(auth, *glass)
    assert ended.returncode == 0, ended.stderr
    assert "within 30 minutes" in ended.stdout
    token = next(line for line in ended.stdout.splitlines() if line.startswith("eyJ"))
    assert ended.stdout.count(token) == 1
    assert token not in ended.stderr
    await boss_token(auth, token)
    assert (await auth.audit("auth.break_glass.used"))[-1].details["os_user"]
    await auth.add(ADMIN, "Admin")
    refused = await command(auth, "break-glass", "--email", BOSS, "--reason", "again")
    assert refused.returncode != 0
    assert "--force" in refused.stderr
    silent = await command(auth, "break-glass", "--email", BOSS, "--reason", " ")
    assert silent.returncode != 0
    wrong = await command(auth, "break-glass", "--email", "not an address", "--reason", "x", "--force")
    assert wrong.returncode != 0
    assert "Traceback" not in wrong.stderr


async def test_the_glass_breaks_in_production_though_mail_is_not_set_up(auth: Auth) -> None:
    await auth.token_of(await a_sponsor(auth))
    own = base64.b64encode(os.urandom(32)).decode()
    glass = ("break-glass", "--email", BOSS, "--reason", "nobody can sign in")
    production = {"ENVIRONMENT": "production"}
    migrated = await command(auth, "migrate", **production)
    assert migrated.returncode == 0, migrated.stderr
    stranger = await command(auth, *glass, AUTH_SECRET_KEYS=own, **production)
    assert stranger.returncode != 0
    assert "does not open the signing keys" in stranger.stderr
    await auth.execute("DELETE FROM signing_keys")
    broke = await command(auth, *glass, AUTH_SECRET_KEYS=own, **production)
    assert broke.returncode == 0, broke.stderr
    default = await command(auth, *glass, **production)
    assert "default of development" in default.stderr


async def a_sponsor(auth: Auth) -> str:
    await auth.add("sponsor@example.com", "Sponsor")
    return "sponsor@example.com"


async def test_a_database_that_is_away_is_one_clear_line(auth: Auth) -> None:
    away = "postgresql://auth:x@127.0.0.1:1/x"
    ended = await command(auth, "break-glass", "--email", BOSS, "--reason", "x", AUTH_DATABASE_URL=away)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "database is not available" in ended.stderr


async def test_seeding_twice_is_seeding_once(auth: Auth, tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    people: list[dict[str, Any]] = [
        {"id": 166, "email": ADMIN, "full_name": "Ayşe", "roles": ["Admin"], "password": PASSWORD, "on_behalf_of": [6]},
        {
            "id": 6,
            "email": "s@example.com",
            "full_name": "S",
            "roles": ["Sponsor"],
            "is_active": False,
            "password": "x",
        },
    ]
    file.write_text(json.dumps(people))
    for _ in range(2):
        ended = await command(auth, "seed", str(file))
        assert ended.returncode == 0, ended.stderr
    assert [event.user_id for event in await auth.events(UserRegistered)] == [166, 6, 166, 6]
    # argon2's real parameters, so the service under test hashes anew, which is fine
    assert (await auth.signed_in(ADMIN))["user"]["id"] == 166
    file.write_text(json.dumps([people[0] | {"password": "do-not-show-me", "id": "x"}]))
    wrong = await command(auth, "seed", str(file))
    assert wrong.returncode != 0
    assert "0.id" in wrong.stderr
    assert "do-not-show-me" not in wrong.stderr + wrong.stdout


async def test_republishing_tells_of_every_account_with_its_present_version(auth: Auth) -> None:
    ids = [await auth.add(f"player{number}@example.com", "Player") for number in range(3)]
    await auth.execute("UPDATE adminuser SET version = 7")
    ended = await command(auth, "republish-users")
    assert ended.stdout.strip() == "3 accounts published again"
    assert [(event.user_id, event.version) for event in await auth.events(UserRegistered)] == [(i, 7) for i in ids]


async def test_an_operator_sees_rotates_and_disables_keys(auth: Auth) -> None:
    assert "active" in (await command(auth, "list-keys")).stdout
    assert (await command(auth, "rotate-keys")).returncode == 0
    listed = (await command(auth, "list-keys")).stdout.splitlines()
    assert [line.split()[1] for line in listed] == ["active", "passive"]
    assert (await command(auth, "disable-key", listed[1].split()[0])).returncode == 0
    unknown = await command(auth, "disable-key", "unknown")
    assert unknown.returncode != 0
    assert "no such signing key" in unknown.stderr
    assert len(await auth.audit("auth.key.rotated")) == 1
    assert len(await auth.audit("auth.key.disabled")) == 1
