"""Judging one row of a list: whether this farmer can be invited at all."""

import re
from typing import Final, NamedTuple

from services.invitations.domain.bulk import REASONS, Refusal
from services.invitations.domain.codes import Tier
from services.invitations.domain.phones import PhoneInvalidError, read_phone

LONGEST_NAME: Final = 200
LONGEST_NOTES: Final = 1_000
LONGEST_EVIDENCE: Final = 1_000
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_LONGEST_EMAIL: Final = 254


class Judgement(NamedTuple):
    """What a row is worth: a phone in E.164 and a tier, or why not and in which column."""

    phone: str | None
    tier: Tier | None
    refusal: Refusal | None = None
    reason: str | None = None
    column: str | None = None


class Judge:
    """Judges the rows of one list in their order; remembers the phones, so that nobody is invited twice by it."""

    def __init__(self, default_tier: Tier | None = None) -> None:
        self._default_tier = default_tier
        self._seen: dict[str, int] = {}

    def judge(
        self, row_no: int, phone_text: str, *, tier: str = "", email: str = "", farmer_name: str = ""
    ) -> Judgement:
        """Judge one row; the first of two with the same number counts."""
        try:
            phone = read_phone(phone_text)
        except PhoneInvalidError as problem:
            return Judgement(None, None, Refusal.INVALID_PHONE, str(problem), "Phone")
        package = tier.strip().upper()
        if package and package not in set(Tier):
            return Judgement(phone, None, Refusal.INVALID_TIER, f"Geçersiz tier: {tier.strip()}", "PackageTier")
        chosen = Tier(package) if package else self._default_tier
        if email and not is_email(email):
            return Judgement(phone, chosen, Refusal.INVALID_ROW, "Geçersiz e-posta adresi.", "Email")
        if len(farmer_name) > LONGEST_NAME:
            reason = f"Çiftçi adı en fazla {LONGEST_NAME} karakter olabilir."
            return Judgement(phone, chosen, Refusal.INVALID_ROW, reason, "FarmerName")
        first = self._seen.setdefault(phone, row_no)
        if first != row_no:
            reason = f"{REASONS[Refusal.DUPLICATE_IN_FILE]} (satır {first})"
            return Judgement(phone, chosen, Refusal.DUPLICATE_IN_FILE, reason, "Phone")
        return Judgement(phone, chosen)


def is_email(text: str) -> bool:
    """Say whether a text looks like an address; whether it exists only a message can tell."""
    return len(text) <= _LONGEST_EMAIL and _EMAIL.fullmatch(text) is not None
