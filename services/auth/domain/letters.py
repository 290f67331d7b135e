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
RESET_PAGE: Final = "/reset-password"  # of the console, which the gateway serves

# In both languages of the console, Turkish first, for an account does not know its owner's language.
_RESET: Final = """Merhaba {name},

Partner Hub hesabınız için yeni bir parola istendi. Parolanızı {minutes} dakika içinde buradan belirleyin.
İsteği siz göndermediyseniz bir şey yapmanız gerekmez, parolanız değişmez; açılan sayfadaki "Bunu ben istemedim"
düğmesi bağlantıyı hemen geçersiz kılar.

Hello {name},

somebody, hopefully you, asked for a new password for your Partner Hub account. Set it here within {minutes} minutes.
If it was not you, you need not do anything, your password stays as it is; "It wasn't me" on the page ends the link
at once.

{link}
"""
_FIRST: Final = """Merhaba {name},

sizin için bir Partner Hub hesabı açıldı. Parolanızı {hours} saat içinde buradan belirleyin.

Hello {name},

a Partner Hub account was made for you. Set your password here within {hours} hours.

{link}
"""
_CHANGED: Final = """Merhaba {name},

Partner Hub hesabınızın parolası değişti; diğer tüm oturumları kapatıldı.
Değiştiren siz değilseniz hemen bir yöneticiden yardım isteyin.

Hello {name},

the password of your Partner Hub account was changed and all its other sessions were ended.
If it was not you, ask an administrator for help at once.
"""
_SUBJECTS: Final = {
    "reset": "Yeni Partner Hub parolanız / Your new Partner Hub password",
    "first": "Partner Hub hesabınız / Your Partner Hub account",
    "changed": "Partner Hub parolanız değişti / Your Partner Hub password was changed",
}


def subject_and_text(letter: Letter, public_url: str) -> tuple[str, str]:
    """Write a letter. The token stands in the fragment of the link, which browsers send to nobody (ASVS 14.2.1)."""
    if isinstance(letter, ChangedLetter):
        return _SUBJECTS["changed"], _CHANGED.format(name=letter.full_name)
    minutes = max(1, round(letter.valid_for / timedelta(minutes=1)))
    text = (_RESET if letter.purpose == "reset" else _FIRST).format(
        name=letter.full_name,
        minutes=minutes,
        hours=max(1, minutes // 60),
        link=f"{public_url.rstrip('/')}{RESET_PAGE}#token={letter.token}",
    )
    return _SUBJECTS[letter.purpose], text
