"""What clients of auth see: forgotten, reset and changed passwords."""

from __future__ import annotations

from shared.events import PasswordChanged, SessionsRevoked
from tests.auth.conftest import OTHER_PASSWORD, PASSWORD, Auth, comparable, outcome

ADMIN, SPONSOR = "admin@example.com", "sponsor@example.com"


async def test_asking_for_a_reset_says_nothing_about_the_account_and_changes_nothing(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.add("disabled@example.com", "Admin", is_active=False)
    await auth.add("new@example.com", "Admin", password=None)
    await auth.add("locked@example.com", "Admin")
    for _ in range(10):
        await auth.login("locked@example.com", "wrong password")
    tokens = await auth.signed_in(ADMIN)
    addresses = [ADMIN, "disabled@example.com", "new@example.com", "locked@example.com", "nobody@example.com"]
    answers = [await auth.post("/request-password-reset", {"email": email}) for email in addresses]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert answers[0].json()["success"] is True
    assert all(answer.content == answers[0].content for answer in answers)
    assert all(comparable(answer) == comparable(answers[0]) for answer in answers)
    await auth.deliver()
    assert (await auth.login(ADMIN)).status_code == 200
    assert (await auth.call("GET", "/me", token=tokens["access_token"])).status_code == 200
    delivered = await auth.audit("auth.password_reset.delivered")
    assert [event.outcome for event in delivered] == ["success"] * 4 + ["failure"]


async def test_a_request_is_audited_without_who_it_is_about_and_with_the_address_in_the_sealed_part_alone(
    auth: Auth,
) -> None:
    await auth.add(ADMIN, "Admin")
    asked = {"x-request-id": "reset-4711"}
    for email in (ADMIN, "nobody@example.com"):
        await auth.post("/request-password-reset", {"email": email}, headers=asked)
    known, unknown = await auth.audit("auth.password_reset.requested")
    assert (known.actor.kind, known.actor.id, known.request_id) == ("anonymous", None, "reset-4711")
    assert (known.personal.pop("email"), unknown.personal.pop("email")) == (ADMIN, "nobody@example.com")
    assert known == unknown
    assert ADMIN not in known.model_dump_json()


async def test_a_reset_sets_the_password_ends_sessions_and_signs_nobody_in(auth: Auth) -> None:
    account_id = await auth.add(ADMIN, "Admin")
    tokens = await auth.signed_in(ADMIN)
    token = await auth.reset_token(ADMIN)
    assert (await auth.row(account_id))["password_reset_token"]
    answer = await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert "set-cookie" not in answer.headers
    assert set(answer.json()) == {"success", "message"}
    assert (await auth.row(account_id))["password_reset_token"] is None
    assert (await auth.login(ADMIN)).status_code == 401
    assert (await auth.login(ADMIN, OTHER_PASSWORD)).status_code == 200
    assert (await auth.call("GET", "/me", token=tokens["access_token"])).status_code == 401
    assert (await auth.post("/refresh", {"refresh_token": tokens["refresh_token"]})).status_code == 401
    assert (await auth.events(PasswordChanged))[-1].how == "reset"
    assert [event.reason for event in await auth.events(SessionsRevoked)] == ["password reset"]
    assert (await auth.audit("auth.password_reset.completed"))[-1].details == {"sessions_ended": 1}


async def test_all_bad_reset_tokens_get_one_answer(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.add(SPONSOR, "Sponsor")
    superseded = await auth.reset_token(ADMIN)
    used = await auth.reset_token(ADMIN)
    assert (await auth.post("/reset-password", {"token": used, "new_password": OTHER_PASSWORD})).status_code == 200
    expired = await auth.reset_token(SPONSOR)
    auth.clock.move(minutes=30, seconds=30)
    access = await auth.token_of(SPONSOR)
    bad = ["", "rubbish", used, superseded, expired, access, used[:-2], "eyJhbGciOiJub25lIn0.e30."]
    answers = [await auth.post("/reset-password", {"token": token, "new_password": PASSWORD + "!"}) for token in bad]
    assert {outcome(answer) for answer in answers} == {(400, "RESET_TOKEN_INVALID")}
    assert all(comparable(answer) == comparable(answers[0]) for answer in answers)
    assert len(await auth.audit("auth.password_reset.failed")) == len(bad)


async def test_the_newest_of_two_reset_tokens_is_the_live_one(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    older, newer = await auth.reset_token(ADMIN), await auth.reset_token(ADMIN)
    assert older != newer
    refused = await auth.post("/reset-password", {"token": older, "new_password": OTHER_PASSWORD})
    assert outcome(refused) == (400, "RESET_TOKEN_INVALID")
    assert (await auth.post("/reset-password", {"token": newer, "new_password": OTHER_PASSWORD})).status_code == 200


async def test_an_owner_who_did_not_ask_makes_the_token_worthless_and_changes_nothing_else(auth: Auth) -> None:
    account_id = await auth.add(ADMIN, "Admin")
    tokens = await auth.signed_in(ADMIN)
    older, token = await auth.reset_token(ADMIN), await auth.reset_token(ADMIN)
    refused = await auth.post("/cancel-password-reset", {"token": older})
    assert outcome(refused) == (400, "RESET_TOKEN_INVALID"), "only the live one"
    answer = await auth.post("/cancel-password-reset", {"token": token})
    assert (answer.status_code, set(answer.json())) == (200, {"success", "message"})
    again = await auth.post("/cancel-password-reset", {"token": token})
    assert comparable(again) == comparable(refused)
    assert outcome(await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD}))[0] == 400
    assert (await auth.call("GET", "/me", token=tokens["access_token"])).status_code == 200
    assert (await auth.login(ADMIN)).status_code == 200
    [event] = await auth.audit("auth.password_reset.cancelled")
    assert (event.severity, event.target and event.target.id) == ("warning", str(account_id))
    newest = await auth.reset_token(ADMIN)
    assert (await auth.post("/reset-password", {"token": newest, "new_password": OTHER_PASSWORD})).status_code == 200


async def test_a_link_that_is_only_looked_at_stays_good(auth: Auth) -> None:
    """Mail scanners follow links: only a POST, which a person's press makes, does anything."""
    await auth.add(ADMIN, "Admin")
    token = await auth.reset_token(ADMIN)
    for path in ("/cancel-password-reset", "/reset-password"):
        for method in ("GET", "HEAD", "OPTIONS"):
            assert (await auth.client.request(method, f"/api/v1/auth{path}?token={token}")).status_code == 405
    assert (await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})).status_code == 200


async def test_a_reset_token_lives_for_half_an_hour(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    token = await auth.reset_token(ADMIN)
    auth.clock.move(minutes=29, seconds=30)
    assert (await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})).status_code == 200


async def test_a_weak_password_says_why_and_leaves_the_token_usable(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    token = await auth.reset_token(ADMIN)
    weak = await auth.post("/reset-password", {"token": token, "new_password": "short"})
    assert outcome(weak) == (422, "PASSWORD_TOO_WEAK")
    assert {error["code"] for error in weak.json()["errors"]} == {"TOO_SHORT", "TOO_GUESSABLE"}
    assert (await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})).status_code == 200


async def test_a_reset_works_while_locked_and_clears_the_count(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    for _ in range(10):
        await auth.login(ADMIN, "wrong password")
    assert (await auth.login(ADMIN)).status_code == 401
    token = await auth.reset_token(ADMIN)
    await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})
    assert (await auth.login(ADMIN, OTHER_PASSWORD)).status_code == 200


async def test_a_disabled_account_can_reset_and_still_not_sign_in(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin", is_active=False)
    token = await auth.reset_token(ADMIN)
    assert (await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})).status_code == 200
    assert outcome(await auth.login(ADMIN, OTHER_PASSWORD)) == (401, "INVALID_CREDENTIALS")


async def test_other_ways_to_change_an_account_kill_the_reset_token(auth: Auth) -> None:
    await auth.add("chief@example.com", "Admin")
    chief = await auth.token_of("chief@example.com")
    account_id = await auth.add(SPONSOR, "Sponsor")
    by_change = await auth.reset_token(SPONSOR)
    change = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    assert (await auth.post("/change-password", change, await auth.token_of(SPONSOR))).status_code == 200
    assert outcome(await auth.post("/reset-password", {"token": by_change, "new_password": PASSWORD}))[0] == 400
    by_disabling = await auth.reset_token(SPONSOR)
    assert (await auth.call("PATCH", f"/users/{account_id}", {"is_active": False}, chief)).status_code == 200
    assert outcome(await auth.post("/reset-password", {"token": by_disabling, "new_password": PASSWORD}))[0] == 400
    by_activating = await auth.reset_token(SPONSOR)
    assert (await auth.call("PATCH", f"/users/{account_id}", {"is_active": True}, chief)).status_code == 200
    assert outcome(await auth.post("/reset-password", {"token": by_activating, "new_password": PASSWORD}))[0] == 400


async def test_a_new_name_or_role_leaves_the_token_on_its_way_alone(auth: Auth) -> None:
    """An admin who mends a name just after making the account must not strand its owner."""
    await auth.add("chief@example.com", "Admin")
    account_id = await auth.add(SPONSOR, "Sponsor", password=None)
    token = await auth.reset_token(SPONSOR)
    change = {"full_name": "Deniz Gül", "roles": ["Sponsor", "Player"]}
    chief = await auth.token_of("chief@example.com")
    assert (await auth.call("PATCH", f"/users/{account_id}", change, chief)).status_code == 200
    assert (await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})).status_code == 200


async def test_at_most_five_letters_go_to_one_address_and_the_answer_does_not_show_it(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    for email in (ADMIN, "nobody@example.com"):
        answers = [await auth.post("/request-password-reset", {"email": email}) for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
    await auth.deliver()
    assert len(auth.tokens_printed(ADMIN)) == 5
    assert auth.tokens_printed("nobody@example.com") == []
    auth.clock.move(hours=1)
    await auth.reset_token(ADMIN)
    assert len(auth.tokens_printed(ADMIN)) == 6


async def test_changing_the_password_needs_the_present_one_and_ends_the_other_sessions(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    here, there = await auth.token_of(ADMIN), await auth.token_of(ADMIN)
    wrong = {"current_password": "wrong password", "new_password": OTHER_PASSWORD}
    assert outcome(await auth.post("/change-password", wrong, here)) == (403, "CURRENT_PASSWORD_WRONG")
    assert (await auth.post("/change-password", {"new_password": OTHER_PASSWORD}, here)).status_code == 422
    weak = {"current_password": PASSWORD, "new_password": "short"}
    assert outcome(await auth.post("/change-password", weak, here)) == (422, "PASSWORD_TOO_WEAK")
    change = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    assert (await auth.post("/change-password", change, here)).status_code == 200
    assert (await auth.call("GET", "/me", token=here)).status_code == 200
    assert (await auth.call("GET", "/me", token=there)).status_code == 401
    assert (await auth.login(ADMIN, OTHER_PASSWORD)).status_code == 200


async def test_guessing_the_present_password_is_throttled_like_signing_in(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    token = await auth.token_of(ADMIN)
    wrong = {"current_password": "wrong password", "new_password": OTHER_PASSWORD}
    codes = [(await auth.post("/change-password", wrong, token)).status_code for _ in range(11)]
    assert codes == [403] * 10 + [429]
    right = await auth.post("/change-password", wrong | {"current_password": PASSWORD}, token)
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) <= 30
