"""What is sealed can be opened with its key, for its row, and in no other way."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sealing import CannotOpen, Sealer, parse_keys

OLD, NEW, FOREIGN = (bytes([n]) * 32 for n in (1, 2, 3))
ROW = "partner_center_connection/1"


@given(st.binary(max_size=2_000))
def test_what_was_sealed_opens_again(plain: bytes) -> None:
    assert Sealer([OLD]).open(Sealer([OLD]).seal(plain, bound_to=ROW), bound_to=ROW) == plain


def test_sealing_twice_gives_two_different_texts_that_do_not_show_the_plain_one() -> None:
    sealer = Sealer([OLD])
    first, second = sealer.seal(b"refresh token", bound_to=ROW), sealer.seal(b"refresh token", bound_to=ROW)

    assert first != second
    assert b"refresh" not in first


def test_a_foreign_key_does_not_open_it_and_the_error_names_the_missing_key_only_by_its_id() -> None:
    sealed = Sealer([OLD]).seal(b"secret", bound_to=ROW)

    with pytest.raises(CannotOpen, match=r"sealed with key [0-9a-f]{8}, which is not among") as refused:
        Sealer([FOREIGN]).open(sealed, bound_to=ROW)
    assert OLD.hex() not in str(refused.value)


def test_a_value_that_was_moved_to_another_row_does_not_open() -> None:
    sealed = Sealer([OLD]).seal(b"secret", bound_to="user/6")

    with pytest.raises(CannotOpen, match="another row"):
        Sealer([OLD]).open(sealed, bound_to="user/166")


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    sealer = Sealer([OLD])
    sealed = sealer.seal(b"secret", bound_to=ROW)

    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises(CannotOpen):
            sealer.open(bytes(damaged), bound_to=ROW)


@pytest.mark.parametrize("nothing", [b"", b"\x01", b"\x01" * 16, b"plain text that was never sealed"])
def test_what_was_never_sealed_is_refused(nothing: bytes) -> None:
    with pytest.raises(CannotOpen):
        Sealer([OLD]).open(nothing, bound_to=ROW)


def test_after_a_rotation_old_values_open_and_new_ones_use_the_new_key() -> None:
    before = Sealer([OLD]).seal(b"secret", bound_to=ROW)
    rotated = Sealer([NEW, OLD])
    after = rotated.seal(b"secret", bound_to=ROW)

    assert rotated.open(before, bound_to=ROW) == b"secret"
    assert (rotated.is_newest(before), rotated.is_newest(after)) == (False, True)
    assert Sealer([NEW]).open(after, bound_to=ROW) == b"secret"
    with pytest.raises(CannotOpen):
        Sealer([NEW]).open(before, bound_to=ROW)


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD, b"short"]])
def test_a_sealer_without_whole_keys_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(keys)


def test_keys_are_read_from_a_setting_with_spaces_and_a_trailing_comma() -> None:
    first, second = os.urandom(32), os.urandom(32)
    text = f" {base64.b64encode(first).decode()} , {base64.b64encode(second).decode()},"

    assert parse_keys(text) == [first, second]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "one or more keys"),
        (",", "one or more keys"),
        ("not base64!", "base64"),
        (base64.b64encode(b"too short").decode(), "32 random bytes"),
        ("anahtarş", "base64"),
    ],
)
def test_keys_that_are_no_keys_get_words_for_the_operator(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_keys(text)
