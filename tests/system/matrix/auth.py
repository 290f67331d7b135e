"""What makes auth write an audit event: people with their passwords, sessions and second factors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import httpx
import pyotp

from local.client import Client
from tests.system.matrix.hub import Hub
from tests.system.matrix.scenario import Scenarios, Sign, sign

SCENARIOS: Final = Scenarios()
PASSWORD: Final = "harbour violet compass nettle"
_NEXT_PASSWORD: Final = "copper lagoon thistle anchor"
_WRONG: Final = "not the password of anybody"
_API: Final = "/api/v1/auth"


@SCENARIOS.leaves("auth.user.created success info")
def demo_accounts_are_seeded(hub: Hub) -> Iterator[Sign]:
    yield sign("auth.user.created success info", "operator", f"user:{hub.stack['accounts']['admin']['id']}")


@SCENARIOS.leaves("auth.user.created success notice", "auth.password_reset.delivered success info")
def an_admin_makes_an_account(hub: Hub) -> Iterator[Sign]:
    body = {"email": "new.colleague@example.com", "full_name": "New Colleague", "roles": ["Player"]}
    made = hub.caller("admin").call("POST", f"{_API}/users", json=body)
    target = f"user:{made.raise_for_status().json()['id']}"
    yield sign("auth.user.created success notice", "admin", target, request=made)
    yield sign("auth.password_reset.delivered success info", "anonymous", target, request=made)


@SCENARIOS.leaves("auth.sign_in success info", "auth.sign_in failure notice", "auth.sign_in denied notice")
def somebody_signs_in_rightly_wrongly_and_too_often(hub: Hub) -> Iterator[Sign]:
    account_id, _ = hub.new_person("guesser", PASSWORD)
    target, login = f"user:{account_id}", f"{_API}/login"
    wrong, right = ({"email": "guesser@example.com", "password": word} for word in (_WRONG, PASSWORD))
    nobody = hub.visitor().call("POST", login, json={"email": "nobody@example.com", "password": _WRONG})
    yield sign("auth.sign_in failure notice", "anonymous", request=nobody)
    good = hub.visitor().call("POST", login, json=right)
    yield sign("auth.sign_in success info", "user", target, request=good)
    for _ in range(2):
        failed = hub.visitor().call("POST", login, json=wrong)
    yield sign("auth.sign_in failure notice", "anonymous", target, request=failed)
    paused = hub.visitor().call("POST", login, json=right)
    yield sign("auth.sign_in denied notice", "anonymous", target, request=paused)


@SCENARIOS.leaves(
    "auth.logout success info", "auth.sessions.ended success notice", "auth.refresh.reused denied warning"
)
def sessions_end(hub: Hub) -> Iterator[Sign]:
    account_id, _ = hub.new_person("traveller", PASSWORD)
    target, email = f"user:{account_id}", "traveller@example.com"
    left = hub.signed_in(email, PASSWORD).call("POST", f"{_API}/logout")
    yield sign("auth.logout success info", "user", target, request=left)
    everywhere = hub.signed_in(email, PASSWORD).call("POST", f"{_API}/logout-all")
    yield sign("auth.logout success info", "user", target, request=everywhere)

    tokens = hub.visitor().call("POST", f"{_API}/login", json={"email": email, "password": PASSWORD}).json()
    spent = {"refresh_token": tokens["refresh_token"]}
    hub.visitor().call("POST", f"{_API}/refresh", json=spent).raise_for_status()
    reused = hub.visitor().call("POST", f"{_API}/refresh", json=spent)
    yield sign("auth.refresh.reused denied warning", "anonymous", target, request=reused)
    ended = hub.caller("admin").call("POST", f"{_API}/users/{account_id}/end-sessions")
    yield sign("auth.sessions.ended success notice", "admin", target, request=ended)


@SCENARIOS.leaves(
    "auth.password_reset.requested success info",
    "auth.password_reset.delivered success info",
    "auth.password_reset.delivered failure info",
    "auth.password_reset.delivered denied info",
    "auth.password_reset.completed success notice",
    "auth.password_reset.failed failure notice",
    "auth.password_reset.cancelled success warning",
)
def a_password_is_forgotten(hub: Hub) -> Iterator[Sign]:
    account_id, _ = hub.new_person("forgetful", PASSWORD)
    target, email = f"user:{account_id}", "forgetful@example.com"
    first = hub.letter_to(email)
    asked = hub.visitor().call("POST", f"{_API}/request-password-reset", json={"email": email})
    yield sign("auth.password_reset.requested success info", "anonymous", request=asked)
    yield sign("auth.password_reset.delivered success info", "anonymous", target, request=asked)
    unknown = hub.visitor().call("POST", f"{_API}/request-password-reset", json={"email": "nobody@example.com"})
    yield sign("auth.password_reset.delivered failure info", "anonymous", request=unknown)

    token = hub.letter_to(email, but=first)
    done = hub.set_password(token, _NEXT_PASSWORD)
    yield sign("auth.password_reset.completed success notice", "anonymous", target, request=done)
    yield sign(
        "auth.password_reset.failed failure notice", "anonymous", target, request=hub.set_password(token, PASSWORD)
    )
    forged = hub.set_password("no.such.token", PASSWORD)
    yield sign("auth.password_reset.failed failure notice", "anonymous", request=forged)

    hub.visitor().call("POST", f"{_API}/request-password-reset", json={"email": email})
    unwanted = {"token": hub.letter_to(email, but=token)}
    cancelled = hub.visitor().call("POST", f"{_API}/cancel-password-reset", json=unwanted)
    yield sign("auth.password_reset.cancelled success warning", "anonymous", target, request=cancelled)

    for _ in range(4):  # with the three letters before, more than are sent without a pause
        last = hub.visitor().call("POST", f"{_API}/request-password-reset", json={"email": email})
    yield sign("auth.password_reset.delivered denied info", "anonymous", target, request=last)


@SCENARIOS.leaves("auth.password.check failure notice", "auth.password.changed success notice")
def a_password_is_changed(hub: Hub) -> Iterator[Sign]:
    account_id, person = hub.new_person("changer", PASSWORD)
    target = f"user:{account_id}"
    for current, claim in (
        (_WRONG, "auth.password.check failure notice"),
        (PASSWORD, "auth.password.changed success notice"),
    ):
        body = {"current_password": current, "new_password": _NEXT_PASSWORD}
        yield sign(claim, "user", target, request=person.call("POST", f"{_API}/change-password", json=body))


@SCENARIOS.leaves(
    "auth.second_factor.enrolled success info",
    "auth.second_factor.confirmed success notice",
    "auth.second_factor.check failure notice",
    "auth.second_factor.recovery_codes_renewed success notice",
    "auth.second_factor.recovery_code_used success notice",
    "auth.second_factor.removed success warning",
    "auth.sign_in failure info",
    "auth.sign_in success info",
)
def a_second_factor_comes_and_goes(hub: Hub) -> Iterator[Sign]:
    account_id, person = hub.new_person("careful", PASSWORD)
    target, proof = f"user:{account_id}", {"password": PASSWORD}
    enrolled = _post(person, "second-factor", proof)
    yield sign("auth.second_factor.enrolled success info", "user", target, request=enrolled)
    app, now = pyotp.TOTP(enrolled.json()["secret"]), time.time()
    # Each code works once, and those of the step before and after are taken, too: so nobody has to wait 30 s here.
    # That of the step before would be too old if the next step began before it is looked at.
    confirmed = _post(person, "second-factor/confirm", {"code": app.at(int(now))})
    yield sign("auth.second_factor.confirmed success notice", "user", target, request=confirmed)
    wrong = _post(person, "second-factor/recovery-codes", proof | {"code": "not-a-code"})
    yield sign("auth.second_factor.check failure notice", "user", target, request=wrong)
    renewed = _post(person, "second-factor/recovery-codes", proof | {"code": app.at(int(now) + 30)})
    yield sign("auth.second_factor.recovery_codes_renewed success notice", "user", target, request=renewed)

    codes = renewed.json()["recovery_codes"]
    credentials = {"email": "careful@example.com"} | proof
    without = _post(hub.visitor(), "login", credentials)
    yield sign("auth.sign_in failure info", "anonymous", target, request=without)
    with_code = _post(hub.visitor(), "login", credentials | {"code": codes[0]})
    yield sign("auth.sign_in success info", "user", target, request=with_code)
    yield sign("auth.second_factor.recovery_code_used success notice", "anonymous", target, request=with_code)
    removed = _post(person, "second-factor/remove", proof | {"code": codes[1]})
    yield sign("auth.second_factor.removed success warning", "user", target, request=removed)


@SCENARIOS.leaves("auth.user.changed success notice", "auth.user.disabled success notice")
def an_account_is_changed_and_disabled(hub: Hub) -> Iterator[Sign]:
    account_id, _ = hub.new_person("leaver", PASSWORD)
    for body, what in (({"roles": ["Player"]}, "changed"), ({"is_active": False}, "disabled")):
        answer = hub.caller("admin").call("PATCH", f"{_API}/users/{account_id}", json=body)
        yield sign(f"auth.user.{what} success notice", "admin", f"user:{account_id}", request=answer)


@SCENARIOS.leaves(
    "auth.break_glass.refused denied critical",
    "auth.break_glass.used success critical",
    "auth.break_glass.confirmed success warning",
    "auth.grants.changed success notice",
    "auth.grants.changed denied warning",
)
def the_glass_is_broken(hub: Hub) -> Iterator[Sign]:
    breaking = ("break-glass", "--reason", "nobody gets in", "--email")
    assert hub.operate("auth", *breaking, "stranger@example.com")[0] == 1
    yield sign("auth.break_glass.refused denied critical", "operator")
    code, printed = hub.operate("auth", *breaking, "rescuer@example.com", "--force")
    assert code == 0, printed
    hub.set_password(printed.splitlines()[1], PASSWORD).raise_for_status()
    rescuer = hub.signed_in("rescuer@example.com", PASSWORD)
    rescuer_id = rescuer.call("GET", f"{_API}/me").json()["id"]
    yield sign("auth.break_glass.used success critical", "operator", f"user:{rescuer_id}")

    # No admin of the demo may act for all sponsors, so that the one behind the glass may: only they can grant.
    colleague = hub.stack["accounts"]["admin_without_grants"]["id"]
    for caller, claim in (
        (rescuer, "auth.grants.changed success notice"),
        (hub.caller("admin"), "auth.grants.changed denied warning"),
    ):
        answer = caller.call("PUT", f"{_API}/users/{colleague}/on-behalf-of", json={"sponsor_ids": []})
        yield sign(claim, "admin", f"user:{colleague}", request=answer)
    lasting = hub.caller("admin").call("POST", f"{_API}/users/{rescuer_id}/confirm-admin")
    yield sign("auth.break_glass.confirmed success warning", "admin", f"user:{rescuer_id}", request=lasting)

    assert hub.operate("auth", *breaking, "forgetful@example.com", "--force")[0] == 0
    hub.sql("auth", "UPDATE adminuser SET admin_until = now() WHERE email = 'forgetful@example.com'")


def _post(client: Client, path: str, body: dict[str, str]) -> httpx.Response:
    return client.call("POST", f"{_API}/{path}", json=body)


# --- what comes at the very end

LAST: Final = Scenarios()


@LAST.leaves("auth.break_glass.ended success warning")
def the_day_behind_the_glass_ends(hub: Hub) -> Iterator[Sign]:
    """The worker looks for those whose day is over every 15 s, so that the other scenarios happen meanwhile."""
    [(account_id,)] = hub.sql("auth", "SELECT id FROM adminuser WHERE email = 'forgetful@example.com'")
    yield sign("auth.break_glass.ended success warning", "service", f"user:{account_id}")


@LAST.leaves("auth.key.rotated success notice", "auth.key.disabled success warning")
def signing_keys_are_rotated_and_disabled(hub: Hub) -> Iterator[Sign]:
    """Nobody can sign in after it: verifiers need up to a minute to trust a key that signs at once."""
    code, printed = hub.operate("auth", "rotate-keys")
    assert code == 0, printed
    yield sign("auth.key.rotated success notice", "operator")
    assert hub.operate("auth", "disable-key", printed.split()[1])[0] == 0
    yield sign("auth.key.disabled success warning", "operator")
