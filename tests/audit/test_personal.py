"""Personal data: separated, sealed, erased, found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.domain.personal import (
    ERASED,
    REMOVED,
    SEALED,
    KeptKey,
    Opened,
    PersonalData,
    mask_phone,
    restore,
    separate,
    without_secrets,
)
from services.audit.domain.records import Draft, ForeignName, NumberMissing, draft
from shared.sealing import CannotOpen
from tests.audit.material import SECRET_KEYS, an_arrival

DATA = PersonalData(SECRET_KEYS)


def test_the_content_shows_nobody() -> None:
    results = [{"phone": "05339876543", "farmerName": "Ayşe Demir", "success": True, "codeCount": 5}]
    content = draft(an_arrival(data={"details": {"results": results}}), DATA).content
    text = orjson.dumps(content).decode()
    for personal in ("5421396386", "192.0.2.7", "05339876543", "Ayşe"):
        assert personal not in text
    assert content["details"]["results"][0] == {
        "phone": SEALED,
        "farmerName": SEALED,
        "success": True,
        "codeCount": 5,
    }


def test_opening_puts_every_value_back_into_its_place() -> None:
    details = {"results": [{"phone": "05339876543"}, {"phone": "05421396386"}]}
    made = draft(an_arrival(data={"details": details}), DATA)
    assert made.sealed is not None
    shown = restore(made.content, DATA.show(made.content, kept(made)))
    assert shown["details"] == details
    assert shown["personal"] == {"phone": "+905421396386", "ip": "192.0.2.7"}
    assert shown["personal_erased"] is False


def kept(made: Draft, **changes: Any) -> KeptKey:
    """What is kept beside the chain about the personal data of a draft."""
    assert made.sealed is not None
    return replace(KeptKey(166, made.sealed.subjects, made.sealed.wrapped_key), **changes)


def test_an_erased_record_says_so_and_its_data_is_gone_for_good() -> None:
    made = draft(an_arrival(data={"details": {"email": "a@example.com"}}), DATA)
    erased = KeptKey(None, [], DATA.erased(made.content["id"]))
    shown = restore(made.content, DATA.show(made.content, erased))
    assert shown["details"] == {"email": ERASED}
    assert shown["personal"] is None
    assert shown["personal_erased"] is True


def test_a_key_that_somebody_removed_or_changed_does_not_pass_for_erased() -> None:
    made, other = draft(an_arrival(), DATA), draft(an_arrival(), DATA)
    strangers = [
        None,
        kept(other),
        kept(made, subjects=[*kept(made).subjects, bytes(32)]),
        kept(made, wrapped_key=b""),
        KeptKey(None, [], DATA.erased(other.content["id"])),
        KeptKey(None, [], PersonalData([bytes(32)]).erased(made.content["id"])),
    ]
    for stranger in strangers:
        shown = restore(made.content, DATA.show(made.content, stranger))
        assert (shown["personal"], shown["personal_erased"]) == (None, False)
        if stranger is not None:
            with pytest.raises(CannotOpen):
                DATA.key_of(made.content["id"], stranger)


def test_a_sealed_value_does_not_open_in_another_record() -> None:
    made = draft(an_arrival(), DATA)
    assert DATA.show(made.content | {"id": "another"}, kept(made)) == Opened(None)


def test_the_next_key_still_opens_what_the_old_one_sealed() -> None:
    made = draft(an_arrival(), PersonalData(SECRET_KEYS[1:]))
    assert DATA.show(made.content, kept(made)).values == {"phone": "+905421396386", "ip": "192.0.2.7"}


@pytest.mark.parametrize("typed", ["+90 542 139 63 86", "05421396386", "5421396386"])
def test_a_person_is_found_by_a_phone_however_it_is_typed(typed: str) -> None:
    made = draft(an_arrival(), DATA)
    assert made.sealed is not None
    assert set(made.sealed.subjects) & set(DATA.search_digests(typed))


@pytest.mark.parametrize(("one", "other"), [("ayse", "fatma"), ("ali55", "veli55"), ("bilinmiyor", "+"), ("a", " ")])
def test_whoever_signs_in_with_a_name_is_not_erased_with_everybody_else_who_does(one: str, other: str) -> None:
    assert DATA.search_digests(one)[0] != DATA.search_digests(other)[0]
    assert DATA.search_digests(f" {one.upper()} ") == DATA.search_digests(one)


def test_a_person_is_found_after_the_key_was_replaced() -> None:
    made = draft(an_arrival(), PersonalData(SECRET_KEYS[1:]))
    assert made.sealed is not None
    assert set(made.sealed.subjects) & set(DATA.search_digests("05421396386"))


@pytest.mark.parametrize("name", ["phone", "phones", "oldPhone", "new_phones"])
@pytest.mark.parametrize("value", [905421396386, "+905421396386", ["05421396386"], [{"phone": "05421396386"}]])
def test_a_personal_value_is_sealed_and_its_person_found_whatever_its_form(name: str, value: object) -> None:
    made = draft(an_arrival(data={"personal": {}, "details": {name: value}}), DATA)
    assert "5421396386" not in orjson.dumps(made.content).decode()
    assert made.sealed is not None
    assert set(made.sealed.subjects) & set(DATA.search_digests("05421396386"))
    assert "5421396386" in str(restore(made.content, DATA.show(made.content, kept(made)))["details"][name])


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "new_password",
        "token",
        "resetToken",
        "refresh_token",
        "Authorization",
        "apiKey",
        "cookie",
        "invitationLink",
    ],
)
def test_a_secret_that_slipped_through_is_removed(name: str) -> None:
    personal, details = separate({name: "canary"}, {"deep": [{name: "canary", "kept": 1}]})
    assert "canary" not in orjson.dumps([personal, details]).decode()
    assert details == {"deep": [{name: REMOVED, "kept": 1}]}


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/ref/0123456789abcdef0123456789abcdef/accept", "/ref/[removed]/accept"),
        ("/ref/short", "/ref/[removed]"),
        ("/api/v1/audit/events/019ab000-0000-7000-8000-000000000001", None),
        ("/api/Sponsorship/farmer/invitations/bulk/123", None),
        ("/x/0123456789abcdef0123456789abcdef", "/x/[removed]"),
    ],
)
def test_a_token_in_the_path_of_a_request_is_removed(path: str, kept: str | None) -> None:
    assert without_secrets(path) == (kept or path)


@pytest.mark.parametrize("name", ["token_id", "token_type", "codes", "count"])
def test_what_only_sounds_like_a_secret_is_kept(name: str) -> None:
    assert separate({}, {name: "kept"})[1] == {name: "kept"}


@pytest.mark.parametrize(
    ("phone", "masked"), [("+905421396386", "+90542***6386"), ("05421396386", "0542***6386"), ("112", "***")]
)
def test_the_middle_of_a_phone_is_hidden(phone: str, masked: str) -> None:
    assert mask_phone(phone) == masked


@given(st.dictionaries(st.sampled_from(["ip", "email", "phone", "user_agent"]), st.text(min_size=1), min_size=1))
def test_whatever_is_personal_opens_as_it_was(values: dict[str, str]) -> None:
    sealed = DATA.seal(values, "event")
    assert sealed is not None
    content = {"id": "event", "personal": sealed.text}
    opened = DATA.show(content, KeptKey(None, sealed.subjects, sealed.wrapped_key))
    assert opened.values == {key: value.encode("utf-8", "replace").decode() for key, value in values.items()}


def test_a_record_without_personal_data_needs_no_key() -> None:
    made = draft(an_arrival(data={"personal": {}}), DATA)
    assert made.sealed is None
    assert made.content["personal"] is None


def test_an_action_may_be_named_after_what_it_was_done_to() -> None:
    arrival = an_arrival(
        service="referrals", type="referrals.audit.recorded.v1", data={"action": "partner_center.sync.completed"}
    )
    assert draft(arrival, DATA).content["action"] == "partner_center.sync.completed"


def test_an_event_without_its_publishers_number_is_refused() -> None:
    with pytest.raises(NumberMissing):
        draft(an_arrival(sequence=None), DATA)


@pytest.mark.parametrize(
    "forged",
    [
        {"type": "auth.audit.recorded.v1"},
        {"service": "auth", "source": "/partner-hub/auth"},
        {"data": {"action": "auth.sign_in.succeeded"}},
    ],
)
def test_a_service_can_not_speak_under_the_name_of_another(forged: dict[str, object]) -> None:
    with pytest.raises(ForeignName):
        draft(an_arrival(**forged), DATA)
