"""Signed checkpoints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.domain.checkpoints import (
    Checkpoint,
    SigningKey,
    UnreadableCheckpointError,
    VerifierKey,
    open_note,
    split_notes,
)
from tests.audit.material import KEY, a_checkpoint

NOTE = KEY.sign(a_checkpoint(57, b"\x07" * 32))


def test_a_signed_checkpoint_reads_back() -> None:
    assert open_note(NOTE, [KEY.verifier]) == a_checkpoint(57, b"\x07" * 32)


def test_the_note_has_the_form_of_a_transparency_log_checkpoint() -> None:
    lines = NOTE.splitlines()
    assert lines[0].startswith("partner-hub/audit/")
    assert lines[1] == "57"
    assert lines[2] == "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
    assert lines[-2] == ""
    assert lines[-1].startswith("— partner-hub-audit ")


@given(st.integers(0, len(NOTE) - 1))
def test_a_checkpoint_changed_anywhere_is_refused(position: int) -> None:
    changed = NOTE[:position] + ("x" if NOTE[position] != "x" else "y") + NOTE[position + 1 :]
    try:
        opened = open_note(changed, [KEY.verifier])
    except UnreadableCheckpointError:
        return
    # Only the padding bits of base64 can differ without changing the signature.
    assert opened == a_checkpoint(57, b"\x07" * 32)


def test_a_checkpoint_signed_by_another_key_is_refused() -> None:
    with pytest.raises(UnreadableCheckpointError, match="not signed by a key we trust"):
        open_note(SigningKey.generate().sign(a_checkpoint(57, b"\x07" * 32)), [KEY.verifier])


def test_after_a_change_of_keys_old_checkpoints_are_still_believed() -> None:
    old = VerifierKey.parse(KEY.verifier.text())
    assert open_note(NOTE, [SigningKey.generate().verifier, old]).seq == 57


@pytest.mark.parametrize(
    "text", ["", "nonsense", "a+b", pytest.param(KEY.verifier.text()[:-4] + "AAA=", id="end replaced")]
)
def test_a_damaged_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="verifier key"):
        VerifierKey.parse(text)


def test_the_signing_key_survives_its_file() -> None:
    again = SigningKey.from_pem(KEY.pem())
    assert again.verifier.text() == KEY.verifier.text()


def test_a_file_of_many_notes_is_split_and_a_torn_end_is_kept_to_be_named() -> None:
    notes = [KEY.sign(a_checkpoint(number, bytes(32), number=number)) for number in (1, 2, 3)]
    assert split_notes("\n".join(notes)) == notes
    assert split_notes(notes[0] + "\n" + notes[1][:40]) == [notes[0], notes[1][:40]]


@pytest.mark.parametrize("text", ["", "a\nb\nc\n", "o\n1\nAAAA\nnumber 1\n"])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(UnreadableCheckpointError):
        Checkpoint.parse(text)
