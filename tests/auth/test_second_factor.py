"""The second factor, from enrolment to the lost telephone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pyotp
import pytest

from services.auth.app import create_app
from services.auth.commands.keys import reseal_keys
from services.auth.commands.second_factor import reseal_seeds
from shared.sealing import Sealer
from tests.auth.conftest import OTHER_PASSWORD, PASSWORD, Auth, outcome, settings_for
from tests.support.asgi import calling

ADMIN = "admin@example.com"


async def enrolled(auth: Auth, token: str) -> tuple[pyotp.TOTP, list[str]]:
    """Enrol and confirm; gives the app and the recovery codes."""
    answer = await auth.post("/second-factor", {"password": PASSWORD}, token)
    assert answer.status_code == 200, answer.text
    assert answer.json()["provisioning_uri"].startswith("otpauth://totp/")
    totp = pyotp.TOTP(answer.json()["secret"])
    confirmed = await auth.post("/second-factor/confirm", {"code": totp.at(auth.clock())}, token)
    assert confirmed.status_code == 200, confirmed.text
    return totp, confirmed.json()["recovery_codes"]


def code_of(auth: Auth, totp: pyotp.TOTP) -> str:
    """Give a code of a later time step."""
    auth.clock.move(seconds=60)
    return totp.at(auth.clock())


@pytest.fixture
async def admin(auth: Auth) -> str:
    await auth.add(ADMIN, "Admin")
    return await auth.token_of(ADMIN)


async def test_with_a_second_factor_the_password_alone_gives_nothing(auth: Auth, admin: str) -> None:
    totp, _ = await enrolled(auth, admin)
    refused = await auth.login(ADMIN)
    assert outcome(refused) == (401, "SECOND_FACTOR_REQUIRED")
    assert "access_token" not in refused.json()
    assert outcome(await auth.login(ADMIN, code="000000")) == (401, "SECOND_FACTOR_INVALID")
    assert outcome(await auth.login(ADMIN, "wrong password", code="000000")) == (401, "INVALID_CREDENTIALS")
    assert (await auth.login(ADMIN, code=code_of(auth, totp))).status_code == 200


async def test_a_seed_counts_only_once_it_is_confirmed(auth: Auth, admin: str) -> None:
    await auth.post("/second-factor", {"password": PASSWORD}, admin)
    assert outcome(await auth.post("/second-factor/confirm", {"code": "000000"}, admin))[1] == "SECOND_FACTOR_INVALID"
    assert (await auth.login(ADMIN)).status_code == 200


async def test_a_code_works_once(auth: Auth, admin: str) -> None:
    totp, _ = await enrolled(auth, admin)
    code = code_of(auth, totp)
    assert (await auth.login(ADMIN, code=code)).status_code == 200
    assert outcome(await auth.login(ADMIN, code=code)) == (401, "SECOND_FACTOR_INVALID")


async def test_guesses_of_codes_are_throttled_with_those_of_passwords(auth: Auth, admin: str) -> None:
    totp, _ = await enrolled(auth, admin)
    for _ in range(10):
        await auth.login(ADMIN, code="000000")
    assert outcome(await auth.login(ADMIN, code=totp.at(auth.clock()))) == (401, "INVALID_CREDENTIALS")


async def test_a_right_password_does_not_clear_the_count_of_wrong_codes(auth: Auth, admin: str) -> None:
    await enrolled(auth, admin)
    for _ in range(9):
        await auth.login(ADMIN, code="000000")
        assert outcome(await auth.login(ADMIN)) == (401, "SECOND_FACTOR_REQUIRED")
    await auth.login(ADMIN, code="000000")
    assert outcome(await auth.login(ADMIN)) == (401, "INVALID_CREDENTIALS")


async def test_each_recovery_code_replaces_the_app_once(auth: Auth, admin: str) -> None:
    _, recovery = await enrolled(auth, admin)
    assert (await auth.login(ADMIN, code=recovery[0])).status_code == 200
    assert outcome(await auth.login(ADMIN, code=recovery[0])) == (401, "SECOND_FACTOR_INVALID")
    assert (await auth.login(ADMIN, code=recovery[1].replace("-", "").upper())).status_code == 200
    assert len(await auth.audit("auth.second_factor.recovery_code_used")) == 2


async def test_new_recovery_codes_replace_the_old_ones(auth: Auth, admin: str) -> None:
    totp, old = await enrolled(auth, admin)
    body = {"password": PASSWORD, "code": code_of(auth, totp)}
    new = (await auth.post("/second-factor/recovery-codes", body, admin)).json()["recovery_codes"]
    assert outcome(await auth.login(ADMIN, code=old[0]))[0] == 401
    assert (await auth.login(ADMIN, code=new[0])).status_code == 200


async def test_removing_the_second_factor_needs_password_and_code(auth: Auth, admin: str) -> None:
    totp, _ = await enrolled(auth, admin)
    code = code_of(auth, totp)
    wrong_password = {"password": "wrong password", "code": code}
    assert outcome(await auth.post("/second-factor/remove", wrong_password, admin))[1] == "CURRENT_PASSWORD_WRONG"
    wrong_code = {"password": PASSWORD, "code": "000000"}
    assert outcome(await auth.post("/second-factor/remove", wrong_code, admin))[1] == "SECOND_FACTOR_INVALID"
    assert (await auth.post("/second-factor/remove", {"password": PASSWORD, "code": code}, admin)).status_code == 200
    assert (await auth.login(ADMIN)).status_code == 200
    again = {"password": PASSWORD, "code": code_of(auth, totp)}
    for path in ("/second-factor/remove", "/second-factor/recovery-codes"):
        assert outcome(await auth.post(path, again, admin)) == (409, "SECOND_FACTOR_NOT_ENROLLED")


async def test_enrolling_needs_the_password_and_never_replaces_a_working_factor(auth: Auth, admin: str) -> None:
    refused = await auth.post("/second-factor", {"password": "wrong password"}, admin)
    assert outcome(refused) == (403, "CURRENT_PASSWORD_WRONG")
    await enrolled(auth, admin)
    assert outcome(await auth.post("/second-factor", {"password": PASSWORD}, admin)) == (409, "SECOND_FACTOR_ACTIVE")
    confirm = await auth.post("/second-factor/confirm", {"code": "000000"}, admin)
    assert outcome(confirm) == (409, "SECOND_FACTOR_ACTIVE")


async def test_a_password_reset_does_not_bypass_the_second_factor(auth: Auth, admin: str) -> None:
    totp, _ = await enrolled(auth, admin)
    token = await auth.reset_token(ADMIN)
    assert (await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})).status_code == 200
    assert outcome(await auth.login(ADMIN, OTHER_PASSWORD)) == (401, "SECOND_FACTOR_REQUIRED")
    assert (await auth.login(ADMIN, OTHER_PASSWORD, code=code_of(auth, totp))).status_code == 200


async def test_an_admin_removes_the_factor_of_somebody_who_lost_it_but_not_their_own(auth: Auth, admin: str) -> None:
    await auth.add("chief@example.com", "Admin")
    chief = await auth.token_of("chief@example.com")
    account_id = await auth.id_of(ADMIN)
    path = f"/users/{account_id}/remove-second-factor"
    assert outcome(await auth.post(path, None, chief)) == (409, "SECOND_FACTOR_NOT_ENROLLED")
    _, recovery = await enrolled(auth, admin)
    assert outcome(await auth.post(path, None, admin)) == (403, "OWN_SECOND_FACTOR")
    removed = await auth.post(path, None, chief)
    assert (removed.status_code, removed.json()["has_second_factor"]) == (200, False)
    assert (await auth.call("GET", "/me", token=admin)).status_code == 401, "sessions end"
    assert (await auth.login(ADMIN)).status_code == 200
    row = await auth.row(account_id)
    assert (row["totp_sealed"], row["totp_confirmed_at"]) == (None, None)
    assert recovery
    [event] = await auth.audit("auth.second_factor.removed")
    assert (event.severity, event.reason, event.actor.kind) == ("warning", "by an admin", "admin")


async def test_wrong_first_codes_leave_evidence_and_are_throttled_too(auth: Auth, admin: str) -> None:
    """Somebody with a stolen session must not guess the code of an app that its owner is just setting up."""
    seed = (await auth.post("/second-factor", {"password": PASSWORD}, admin)).json()["secret"]
    for _ in range(10):
        wrong = await auth.post("/second-factor/confirm", {"code": "000000"}, admin)
        assert outcome(wrong) == (401, "SECOND_FACTOR_INVALID")
    right = {"code": pyotp.TOTP(seed).at(auth.clock())}
    assert outcome(await auth.post("/second-factor/confirm", right, admin)) == (429, "TOO_MANY_REQUESTS")
    assert [event.outcome for event in await auth.audit("auth.second_factor.check")] == ["failure"] * 10


async def test_only_the_confirmation_makes_a_seed_count(auth: Auth, admin: str) -> None:
    seed = (await auth.post("/second-factor", {"password": PASSWORD}, admin)).json()["secret"]
    proof = {"password": PASSWORD, "code": pyotp.TOTP(seed).at(auth.clock())}
    refused = await auth.post("/second-factor/recovery-codes", proof, admin)
    assert outcome(refused) == (409, "SECOND_FACTOR_NOT_ENROLLED")
    assert (await auth.row(await auth.id_of(ADMIN)))["totp_confirmed_at"] is None


async def test_the_database_holds_neither_seed_nor_recovery_codes_in_clear(auth: Auth, admin: str) -> None:
    totp, recovery = await enrolled(auth, admin)
    async with auth.context.database.connection() as conn:
        row = str(dict(await conn.fetchrow("SELECT * FROM adminuser WHERE email = $1", ADMIN) or {}))
        codes = str(await conn.fetch("SELECT * FROM recovery_codes"))
    assert totp.secret not in row
    assert not any(code.replace("-", "") in codes for code in recovery)


# --- demanded of admins


@pytest.fixture
async def strict(auth: Auth) -> AsyncIterator[Auth]:
    """The same service with the second factor demanded of admins."""
    context = replace(auth.context, rules=replace(auth.context.rules, admins_need_second_factor=True))
    async with calling(create_app(settings_for(auth.fresh), context)) as client:
        yield replace(auth, client=client, context=context)


async def test_an_admin_without_the_demanded_factor_may_enrol_one_and_nothing_else(strict: Auth) -> None:
    await strict.add(ADMIN, "Admin")
    tokens = await strict.signed_in(ADMIN)
    assert tokens["second_factor_enrolment_required"] is True
    assert tokens["user"]["roles"] == []
    access = tokens["access_token"]
    assert (await strict.call("GET", "/users", token=access)).status_code == 403
    await enrolled(strict, access)
    refreshed = (await strict.post("/refresh", {"refresh_token": tokens["refresh_token"]})).json()
    assert refreshed["user"]["roles"] == ["Admin"]
    assert (await strict.call("GET", "/users", token=refreshed["access_token"])).status_code == 200


async def test_an_admin_who_removes_the_demanded_factor_may_enrol_one_and_nothing_else_again(strict: Auth) -> None:
    await strict.add(ADMIN, "Admin")
    tokens = await strict.signed_in(ADMIN)
    totp, _ = await enrolled(strict, tokens["access_token"])
    proof = {"password": PASSWORD, "code": code_of(strict, totp)}
    assert (await strict.post("/second-factor/remove", proof, tokens["access_token"])).status_code == 200
    refreshed = (await strict.post("/refresh", {"refresh_token": tokens["refresh_token"]})).json()
    assert (refreshed["user"]["roles"], refreshed["second_factor_enrolment_required"]) == ([], True)


async def test_others_are_not_asked_for_what_only_admins_need(strict: Auth) -> None:
    await strict.add("sponsor@example.com", "Sponsor")
    tokens = await strict.signed_in("sponsor@example.com")
    assert tokens["second_factor_enrolment_required"] is False
    assert tokens["user"]["roles"] == ["Sponsor"]


async def test_an_authenticator_moves_to_the_newest_secret_key_and_needs_no_older_one(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    totp, _ = await enrolled(auth, await auth.token_of(ADMIN))
    newest = b"n" * 32
    async with auth.context.database.transaction() as conn:
        both = Sealer([newest, b"partner-hub development only key"])
        await reseal_keys(conn, both)
        assert await reseal_seeds(conn, both) == 1
        assert await reseal_seeds(conn, both) == 0
    object.__setattr__(auth.context, "sealer", Sealer([newest]))
    assert (await auth.login(ADMIN)).status_code == 401
    answer = await auth.login(ADMIN, code=code_of(auth, totp))
    assert answer.status_code == 200, answer.text
