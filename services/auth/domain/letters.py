"""What is written to the owner of an account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class ResetLetter:
    """The way to a new password, for the stored address."""

    email: str
    full_name: str
    token: str
    purpose: Literal["reset", "first"]
    valid_for: timedelta


@dataclass(frozen=True, slots=True)
class ChangedLetter:
    """Word that the password was changed; it holds nothing with which anybody could act (ASVS 6.3.7)."""

    email: str
    full_name: str


Letter = ResetLetter | ChangedLetter

_RESET: Final = """Hello {name},

somebody, hopefully you, asked for a new password for your Partner Hub account.
Set it here within {valid}:

{link}

If it was not you, do nothing: your password stays as it is.
"""
_FIRST: Final = """Hello {name},

a Partner Hub account was made for you. Set your password here within {valid}:

{link}
"""
_CHANGED: Final = """Hello {name},

the password of your Partner Hub account was changed and all its sessions were ended.
If it was not you, ask an administrator for help at once.
"""


def subject_and_text(letter: Letter, public_url: str) -> tuple[str, str]:
    """Write a letter. The token stands in the fragment of the link, which browsers send to nobody (ASVS 14.2.1)."""
    if isinstance(letter, ChangedLetter):
        return "Your Partner Hub password was changed", _CHANGED.format(name=letter.full_name)
    link = f"{public_url.rstrip('/')}/reset-password#token={letter.token}"
    text, subject = (
        (_RESET, "Your new Partner Hub password") if letter.purpose == "reset" else (_FIRST, "Your Partner Hub account")
    )
    return subject, text.format(name=letter.full_name, valid=_in_words(letter.valid_for), link=link)


def _in_words(span: timedelta) -> str:
    minutes = max(1, int(span.total_seconds()) // 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} hours" if hours > 1 and not rest else f"{minutes} minutes"
