"""What a new password must be: long, not known, not guessable, not made of what is known about its owner.

No composition rules and no forced change (NIST SP 800-63B-4 §3.1.1.2). The whole password is compared with the lists,
never parts of it. Estimators call "mosquito-admin-2026" strong even when told the words (measured), so what remains
without the context words is judged too.
"""

from __future__ import annotations

import gzip
import re
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import zxcvbn_rs_py

from services.auth.domain.errors import PasswordTooWeak
from shared.errors import FieldError

LONGEST: Final = 128
_LOWEST_SCORE: Final = 3  # of 0..4: at least 10^8 guesses
_SHORTEST_CONTEXT_WORD: Final = 4  # shorter ones occur in innocent words
_GENERIC_WORDS: Final = ("partnerhub", "partner", "sponsor", "admin", "password", "parola", "sifre", "şifre", "welcome")
_SEPARATORS: Final = str.maketrans("", "", string.punctuation + string.whitespace)


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """The rules, the same for every way in: reset, change, first password (ASVS 6.1.3)."""

    shortest: int = 15  # NIST: 15 where the password is the only factor
    blocked: frozenset[str] = frozenset()
    context_words: tuple[str, ...] = ()

    def accept(self, password: str, *, email: str, full_name: str, field: str = "new_password") -> str:
        """Give the password in its normal form; raises PasswordTooWeak with every reason."""
        normal = normal_password(password)
        words = _words(email, full_name, self.context_words)
        if reasons := [FieldError(field, text, code) for code, text in self._reasons(normal, words)]:
            raise PasswordTooWeak(" ".join(reason.message for reason in reasons), fields=reasons)
        return normal

    def _reasons(self, password: str, words: list[str]) -> Iterable[tuple[str, str]]:
        if len(password) < self.shortest:
            yield "TOO_SHORT", f"Use at least {self.shortest} characters; several unrelated words are fine."
        if len(password) > LONGEST:
            yield "TOO_LONG", f"Use at most {LONGEST} characters."
            return
        folded = password.casefold()
        if folded in common_passwords() or folded in self.blocked:
            yield "TOO_COMMON", "This password is on a list of well-known passwords."
        elif _score(password, words) < _LOWEST_SCORE:
            yield "TOO_GUESSABLE", "This password is easy to guess: avoid repeats, sequences, dates and common phrases."
        elif (rest := _without(folded, words)) != folded and _score(rest.translate(_SEPARATORS), []) < _LOWEST_SCORE:
            yield "TOO_PERSONAL", "Little remains of this password without your name, address or the product's name."


def normal_password(password: str) -> str:
    """Give the form that is hashed, so that every keyboard's spelling of a letter signs in (NIST: NFKC)."""
    return unicodedata.normalize("NFKC", password)


@cache
def common_passwords() -> frozenset[str]:
    """Give the shipped list of common passwords (licence beside it)."""
    packed = resources.files("services.auth.domain").joinpath("common_passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split("\n")) - {""}


def read_blocklist(path: Path) -> frozenset[str]:
    """Read an operator's own list, one password a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(normal_password(line.strip()).casefold() for line in lines) - {""}


def _words(email: str, full_name: str, more: Iterable[str]) -> list[str]:
    local = email.partition("@")[0]
    parts = [local, *re.split(r"[^\w]+", f"{local} {full_name}"), *more, *_GENERIC_WORDS]
    words = {normal_password(part).casefold() for part in parts}
    return sorted((word for word in words if len(word) >= _SHORTEST_CONTEXT_WORD), key=len, reverse=True)


def _without(password: str, words: list[str]) -> str:
    for word in words:
        password = password.replace(word, "")
    return password


def _score(password: str, words: list[str]) -> int:
    return int(zxcvbn_rs_py.zxcvbn(password, words).score)
