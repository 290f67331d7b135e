"""Log lines, to the letter of the operators' guide, and whole whatever is in them."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.domain.lines import line_for, neutralise
from tests.audit.material import a_content

PHONE = {"phone": "+905421396386"}


def on_behalf(action: str, **details: Any) -> dict[str, Any]:
    return a_content(service="invitations", action=action, on_behalf_of=6, details=details)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            on_behalf("invitations.bulk.started_on_behalf", count=5, channel="SMS"),
            "📤 ADMIN 166 creating 5 farmer invitations on behalf of sponsor 6 via SMS",
        ),
        (
            on_behalf("invitations.invitation.created_on_behalf", invitation_id=1234),
            "✅ ADMIN created invitation 1234 for +90542***6386",
        ),
        (
            on_behalf("invitations.invitation.sent_on_behalf", invitation_id=1234),
            "✅ ADMIN sent invitation 1234 to +90542***6386",
        ),
        (
            on_behalf("invitations.bulk.sent_on_behalf", success_count=5, failed_count=0),
            "📧 ADMIN bulk farmer invitations completed. Success: 5, Failed: 0",
        ),
    ],
)
def test_an_on_behalf_of_call_reads_as_the_guide_says(content: dict[str, Any], line: str) -> None:
    assert line_for(content, PHONE, full_phones=False) == line


def test_full_phones_are_shown_only_when_asked_for() -> None:
    content = on_behalf("invitations.invitation.sent_on_behalf", invitation_id=1234)
    assert line_for(content, PHONE, full_phones=True) == "✅ ADMIN sent invitation 1234 to +905421396386"


def test_any_other_record_says_who_did_what_to_which_thing() -> None:
    content = a_content(
        action="auth.sign_in.failed", outcome="denied", reason="wrong password", actor={"kind": "anonymous", "id": None}
    )
    expected = "⛔ auth.sign_in.failed by anonymous on user 166 (denied: wrong password)"
    assert line_for(content, {}, full_phones=False) == expected


def test_a_refused_call_does_not_read_like_a_completed_one() -> None:
    refused = a_content(
        service="invitations",
        action="invitations.bulk.sent_on_behalf",
        on_behalf_of=6,
        target={"kind": "sponsor", "id": "6"},
        outcome="denied",
        reason="OBO_NOT_PERMITTED",
    )
    expected = "⛔ invitations.bulk.sent_on_behalf by admin 166 on sponsor 6 for sponsor 6 (denied: OBO_NOT_PERMITTED)"
    assert line_for(refused, {}, full_phones=False) == expected


def test_line_breaks_and_terminal_escapes_are_written_out() -> None:
    forged = "x\r\n✅ ADMIN sent invitation 1 to +1\x1b[2K\u2028\u202e"
    line = line_for(a_content(reason=forged), {}, full_phones=False)
    assert len(line.splitlines()) == 1
    assert "\\u000d\\u000a" in line
    assert "\\u001b[2K\\u2028\\u202e" in line


def test_every_character_that_nobody_sees_is_written_out() -> None:
    """All control and format characters of Unicode but for a few of scripts that show as signs."""
    shown = {
        "\u06dd",
        "\u070f",
        "\u08e2",
        "\U000110bd",
        "\U000110cd",
        *map(chr, range(0x600, 0x606)),
        "\u0890",
        "\u0891",
    }
    for char in map(chr, range(sys.maxunicode + 1)):
        hidden = unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and char not in shown
        if hidden and not 0x13430 <= ord(char) <= 0x1343F:  # joins Egyptian hieroglyphs
            assert neutralise(char).isascii(), hex(ord(char))


def test_a_character_that_is_written_out_reads_as_itself_in_json() -> None:
    text = "a\x9b\u2028\u202e\U000e0041"
    assert json.loads(f'"{neutralise(text)}"') == text


@given(st.text())
def test_no_text_makes_a_second_line_or_moves_the_cursor(text: str) -> None:
    shown = neutralise(text)
    assert len(f"[{shown}]".splitlines()) == 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


def test_turkish_letters_and_emoji_stay_readable() -> None:
    assert neutralise("Ayşe Öztürk Bölge İ 📤✅📧") == "Ayşe Öztürk Bölge İ 📤✅📧"
