"""Cursors are opaque, survive any sort key, and a made-up one gets a clear error."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.pagination import decode_cursor, encode_cursor

# JSON has no time: a sort key by time travels as text, and integers stay in 64 bits as in Postgres.
SORT_KEYS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.text() | st.none() | st.booleans(), min_size=1, max_size=4)


@given(SORT_KEYS)
def test_a_cursor_gives_back_the_sort_key_that_it_was_made_of(position: list[Any]) -> None:
    assert decode_cursor(encode_cursor(*position), len(position)) == position


@given(SORT_KEYS)
def test_a_cursor_fits_into_a_query_string_as_it_is(position: list[Any]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+", encode_cursor(*position))


def json_cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "%",
        "çiçek",
        "AAAA",
        "a",
        "x" * 10_000,
        json_cursor("[1]"),
        json_cursor('{"a": 1, "b": 2}'),
        json_cursor("[1,2,3]"),
        json_cursor("[1,18446744073709551615]"),
    ],
)
def test_a_cursor_that_we_did_not_make_is_refused_with_what_would_be_right(cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode_cursor(cursor, 2)

    assert [error.field for error in refused.value.fields] == ["cursor"]
    assert "next_cursor" in refused.value.fields[0].message
