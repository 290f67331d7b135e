"""The rules of auth, without any I/O."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.auth.domain.accounts import Account, known_roles, normal_email, permissions_of
from services.auth.domain.errors import PasswordTooWeak
from services.auth.domain.hashing import HashCost, PasswordHasher, TooBusy, Verdict
from services.auth.domain.letters import ChangedLetter, ResetLetter, subject_and_text
from services.auth.domain.lockout import Throttle, ThrottleRules
from services.auth.domain.passwords import PasswordPolicy, common_passwords, read_blocklist
from services.auth.domain.rules import RESET_MAILS
from services.auth.domain.second_factor import (
    accepted_step,
    new_recovery_codes,
    new_seed,
    provisioning_uri,
    recovery_code_hash,
)
from services.auth.domain.sessions import SessionLimits, new_refresh_token, new_secret, successor
from services.auth.domain.tokens import TokenLifetimes
from shared.errors import Invalid

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
POLICY = PasswordPolicy()


def an_account(**changes: object) -> Account:
    account = Account(
        id=1,
        email="ayse.yilmaz@example.com",
        full_name="Ayşe Yılmaz",
        roles=frozenset({"Admin"}),
        is_active=True,
        status="active",
        password_hash="x",
        password_reset_token=None,
        password_reset_expires_at=None,
        password_reset_requested_at=None,
        password_reset_delivered_at=None,
        credential_epoch=0,
        version=1,
        on_behalf_of="all",
        admin_until=None,
        disable_after_admin=False,
        has_second_factor=False,
        created_at=NOW,
        updated_at=NOW,
        signed_in_at=None,
    )
    return replace(account, **changes)  # type: ignore[arg-type]


def reasons(password: str, policy: PasswordPolicy = POLICY) -> list[str]:
    try:
        policy.accept(password, email="ayse.yilmaz@example.com", full_name="Ayşe Yılmaz")
    except PasswordTooWeak as error:
        return [field.code for field in error.fields]
    return []


# --- passwords


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "kiraz pencere motor bulut",
        "🦊🐢🐙🦋🐝🐞🐬🐳🐊🐆🦓🦍🐘🦏🐪",
        "q7Xz-2vKp9-mW4t",
        "otter lantern quiver mosaic " * 4,
    ],
)
def test_long_unguessable_passwords_of_any_script_are_taken(password: str) -> None:
    assert reasons(password) == []


def test_length_counts_code_points_and_needs_no_kinds_of_characters() -> None:
    assert reasons("ğüşiöçĞÜŞİÖÇxqw") == []
    assert "TOO_SHORT" in reasons("q7Xz-2vKp9-mW4")
    assert reasons("x9" + "vkqzjw " * 18) == []
    assert "TOO_LONG" in reasons("ab1 " * 33)


@pytest.mark.parametrize(
    "password",
    [
        "aaaaaaaaaaaaaaaaaaaa",
        "passwordpassword",
        "123456789012345678",
        "qwertyuiop123456",
        "Summer2026Summer2026",
    ],
)
def test_guessable_passwords_are_refused_however_long(password: str) -> None:
    assert reasons(password)


@pytest.mark.parametrize(
    "password",
    ["ayse.yilmaz-2026!!", "Ayşe-Yılmaz-1984", "partner-hub-admin-2026", "PartnerHub2026Admin!", "ayse.yilmaz.admin.1"],
)
def test_what_is_known_about_the_owner_or_the_product_is_no_password(password: str) -> None:
    assert "TOO_PERSONAL" in reasons(password) or "TOO_GUESSABLE" in reasons(password)


def test_an_estimator_alone_would_take_the_product_name_with_a_year() -> None:
    policy = PasswordPolicy(context_words=("mosquito",))
    assert reasons("mosquito-admin-2026", policy) == ["TOO_PERSONAL"]
    assert reasons("mosquito tulip lantern orbit", policy) == []


def test_every_shipped_common_password_is_refused() -> None:
    short_policy = PasswordPolicy(shortest=8)
    assert len(common_passwords()) > 8_000
    sample = sorted(common_passwords())[::400]
    assert all("TOO_COMMON" in reasons(word, short_policy) for word in sample)
    assert "TOO_COMMON" in reasons("PassWord1", short_policy)


def test_an_operators_own_list_is_respected(tmp_path: Path) -> None:
    file = tmp_path / "blocked.txt"
    file.write_text("Glacier Trumpet Walnut Prism\n\n", encoding="utf-8")
    policy = PasswordPolicy(blocked=read_blocklist(file))
    assert reasons("glacier trumpet walnut prism", policy) == ["TOO_COMMON"]
    assert reasons("glacier trumpet walnut prisms", policy) == []


def test_the_same_password_from_another_keyboard_is_the_same_password() -> None:
    composed = POLICY.accept("caf\u00e9 lantern quiver mosaic", email="a@example.com", full_name="A")
    decomposed = POLICY.accept("cafe\u0301 lantern quiver mosaic", email="a@example.com", full_name="A")
    assert composed == decomposed


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_the_policy(password: str) -> None:
    reasons(password)


# --- hashing


async def test_hashes_are_argon2id_with_at_least_the_recommended_cost() -> None:
    hasher = PasswordHasher(HashCost())
    stored = await hasher.hash("correct horse battery staple")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await hasher.verify(stored, "correct horse battery staple")).matches
    assert not (await hasher.verify(stored, "correct horse battery stapl")).matches
    hasher.close()


async def test_passwords_that_differ_after_72_bytes_are_different() -> None:
    hasher = PasswordHasher(HashCost(memory_kib=64, passes=1))
    stored = await hasher.hash("x" * 100 + "a")
    assert not (await hasher.verify(stored, "x" * 100 + "b")).matches
    hasher.close()


async def test_a_hash_made_with_other_parameters_asks_for_a_new_one() -> None:
    old, new = PasswordHasher(HashCost(memory_kib=64, passes=1)), PasswordHasher(HashCost(memory_kib=128, passes=1))
    stored = await old.hash("correct horse battery staple")
    assert (await new.verify(stored, "correct horse battery staple")) == Verdict(matches=True, is_outdated=True)
    assert (await old.verify(stored, "correct horse battery staple")) == Verdict(matches=True)
    assert (await new.verify(stored, "another")) == Verdict(matches=False)
    old.close()
    new.close()


async def test_nobodys_password_takes_as_long_as_somebodys() -> None:
    """By the time of the processor, which what else the machine does can't lengthen."""
    hasher = PasswordHasher(HashCost(), threads=1)
    stored = await hasher.hash("correct horse battery staple")

    async def cost(hashed: str | None) -> float:
        started = time.process_time()
        await hasher.verify(hashed, "wrong")
        return time.process_time() - started

    # In turn, and the quickest of each: a neighbour who takes the caches for a while makes both dearer, or neither.
    known, unknown = map(min, zip(*[(await cost(stored), await cost(None)) for _ in range(7)], strict=True))
    assert 0.5 < known / unknown < 2
    hasher.close()


async def test_the_event_loop_goes_on_while_hashes_are_computed() -> None:
    hasher = PasswordHasher(HashCost(), threads=1)

    async def ticks_meanwhile() -> int:
        work = asyncio.gather(*(hasher.hash("correct horse battery staple") for _ in range(4)))
        ticks = 0
        while not work.done():
            await asyncio.sleep(0.005)
            ticks += 1
        await work
        return ticks

    # A loop that is held up has a tick between two hashes at most, in each round; a busy machine does that in some.
    assert max([await ticks_meanwhile() for _ in range(5)]) > 5
    hasher.close()


async def test_a_flood_of_passwords_is_turned_away_after_some_seconds_and_keeps_nobody_out_for_longer() -> None:
    hasher = PasswordHasher(HashCost(), threads=1, longest_wait=0.2)
    began = time.monotonic()
    results = await asyncio.gather(*(hasher.verify(None, "x") for _ in range(5_000)), return_exceptions=True)
    answered = [result for result in results if isinstance(result, Verdict)]
    assert 1 <= len(answered) < 5_000
    assert all(isinstance(result, TooBusy) for result in results if result not in answered)
    assert time.monotonic() - began < 30, "and not as long as 5,000 of them take"
    assert not (await hasher.verify(None, "x")).matches, "and when the flood is over, all is well"
    hasher.close()


async def test_somebody_who_hangs_up_while_waiting_leaves_no_turn_behind() -> None:
    hasher = PasswordHasher(HashCost(), threads=1)
    waiting = [asyncio.create_task(hasher.verify(None, "x")) for _ in range(20)]
    await asyncio.sleep(0.05)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not (await hasher.verify(None, "x")).matches
    hasher.close()


# --- throttle

RULES = ThrottleRules()


def after_failures(count: int, throttle: Throttle = Throttle(), now: datetime = NOW) -> Throttle:  # noqa: B008  frozen
    for _ in range(count):
        throttle = throttle.failed(now, RULES)
    return throttle


def test_nine_failures_cost_nothing_and_the_tenth_a_pause() -> None:
    assert not after_failures(9).is_paused(NOW)
    assert after_failures(10).is_paused(NOW)
    assert after_failures(10).seconds_left(NOW) == 30


def test_the_pause_grows_to_a_quarter_of_an_hour_and_ends_by_itself() -> None:
    pauses = [after_failures(count).seconds_left(NOW) for count in range(10, 17)]
    assert pauses == [30, 60, 120, 240, 480, 900, 900]
    assert not after_failures(1_000).is_paused(NOW + timedelta(minutes=15))


def test_whoever_keeps_asking_for_letters_in_anothers_name_leaves_them_a_live_link_at_any_time() -> None:
    assert RESET_MAILS.longest_pause <= TokenLifetimes().reset


def test_failures_of_yesterday_are_forgotten() -> None:
    yesterday = after_failures(50)
    today = yesterday.failed(NOW + timedelta(hours=24), RULES)
    assert today.failures == 1
    assert not today.is_paused(NOW + timedelta(hours=24))


# --- accounts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a@b",
        "a@x.org,b@y.org",
        "a@x.org b@y.org",
        "a@x.org\r\nBcc: b@y.org",
        "a@x.org\x00",
        "\u0131stanbul@example.com",
        "\ufb01sh@example.com",
        "\uff41@example.com",
        "a@b..org",
        "a" * 65 + "@example.com",
        "<a@x.org>",
        '"a b"@x.org',
    ],
)
def test_what_is_not_one_plain_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as error:
        normal_email(text)
    assert error.value.fields[0].field == "email"


def test_addresses_have_one_spelling() -> None:
    assert normal_email(" Ayse.Yilmaz+x@Example.COM ") == "ayse.yilmaz+x@example.com"


def test_an_unknown_role_is_named() -> None:
    with pytest.raises(Invalid) as error:
        known_roles(["Admin", "Root"])
    assert "Root" in error.value.fields[0].message


def test_permissions_of_roles_add_up() -> None:
    assert permissions_of(["Player"]) == frozenset()
    assert permissions_of(["Sponsor", "Auditor"]) == permissions_of(["Sponsor"]) | permissions_of(["Auditor"])


@pytest.mark.parametrize("changes", [{"is_active": False}, {"status": "disabled"}])
def test_either_flag_disables_an_account(changes: dict[str, object]) -> None:
    assert not an_account(**changes).is_enabled


def test_a_temporary_admin_is_one_until_the_minute_it_ends() -> None:
    account = an_account(admin_until=NOW, roles=frozenset({"Admin", "Auditor"}))
    assert "Admin" in account.roles_at(NOW - timedelta(seconds=1))
    assert account.roles_at(NOW) == {"Auditor"}
    assert account.grants_at(NOW - timedelta(seconds=1)) == "all"
    assert account.grants_at(NOW) == frozenset()
    assert not account.is_lasting_admin()


@pytest.mark.parametrize(
    "changes", [{"password_hash": None}, {"roles": frozenset({"Auditor"})}, {"is_active": False}, {"admin_until": NOW}]
)
def test_who_cannot_sign_in_for_good_is_no_lasting_admin(changes: dict[str, object]) -> None:
    assert an_account().is_lasting_admin()
    assert not an_account(**changes).is_lasting_admin()


# --- sessions and the second factor


def test_the_successor_of_a_refresh_token_is_one_and_needs_the_secret() -> None:
    token, secret = new_refresh_token(), new_secret()
    assert successor(token, secret) == successor(token, secret)
    assert successor(token, secret) != successor(token, new_secret())
    assert len(successor(token, secret)) == len(token) == 43


def test_idle_and_absolute_limits_follow_the_standard() -> None:
    limits = SessionLimits()
    assert limits.lifetime <= timedelta(hours=24)
    assert limits.idle <= timedelta(hours=1)


def test_a_code_works_once_and_one_step_late() -> None:
    seed = new_seed()
    code = pyotp.TOTP(seed).at(NOW)
    step = accepted_step(seed, code, after=None, now=NOW)
    assert step is not None
    assert accepted_step(seed, code, after=step, now=NOW) is None
    assert accepted_step(seed, code, after=None, now=NOW + timedelta(seconds=30)) == step
    assert accepted_step(seed, code, after=None, now=NOW + timedelta(seconds=90)) is None


@pytest.mark.parametrize("code", ["", "abcdef", "12345", "\uff11\uff12\uff13\uff14\uff15\uff16", "000000 ", "-00001"])
def test_what_is_no_code_is_not_accepted(code: str) -> None:
    assert accepted_step(new_seed(), code, after=None, now=NOW) is None


def test_recovery_codes_have_80_bits_and_forgive_how_they_are_typed() -> None:
    codes = new_recovery_codes()
    assert len(set(codes)) == 10
    assert all(len(code.replace("-", "")) == 20 for code in codes)
    assert recovery_code_hash(codes[0]) == recovery_code_hash(codes[0].replace("-", " ").upper())


def test_the_app_learns_whose_code_it_is() -> None:
    uri = provisioning_uri(new_seed(), "ayse@example.com")
    assert uri.startswith("otpauth://totp/Partner%20Hub:ayse%40example.com?")


# --- letters


def test_the_token_stands_in_the_fragment_where_no_server_sees_it() -> None:
    letter = ResetLetter("a@example.com", "Ayşe", "TOKEN", "reset", timedelta(minutes=30))
    _, text = subject_and_text(letter, "https://hub.example.com/")
    assert "https://hub.example.com/reset-password#token=TOKEN" in text
    assert "30 minutes" in text
    _, first = subject_and_text(
        replace(letter, purpose="first", valid_for=timedelta(hours=24)), "https://hub.example.com"
    )
    assert "24 hours" in first


def test_word_of_a_change_holds_nothing_to_click() -> None:
    _, text = subject_and_text(ChangedLetter("a@example.com", "Ayşe"), "https://hub.example.com")
    assert "http" not in text
