"""Codes: tiers, stock, and who gets which when there are not enough for all."""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

# Crockford's alphabet without the letters that are mistaken for digits on a feature phone.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH: Final = 16

# Postgres says "infinity"; asyncpg reads that as the largest datetime, so the two mean the same to us.
NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Tier(StrEnum):
    """Packages, the smallest first."""

    S = "S"
    M = "M"
    L = "L"
    XL = "XL"


class Want(NamedTuple):
    """So many codes for one farmer; without a tier, the lowest that can serve the farmer alone."""

    quantity: int
    tier: Tier | None


class Shortage(NamedTuple):
    """Not enough codes for one farmer when it was the farmer's turn."""

    available: int
    wanted: int
    tier: Tier | None

    def __str__(self) -> str:
        tier = f" ({self.tier} tier)" if self.tier else ""
        return f"Yetersiz kod{tier}. Mevcut: {self.available}, İstenen: {self.wanted}"


class Stock(NamedTuple):
    """How many codes of one tier a sponsor has, by what became of them."""

    tier: Tier
    available: int
    reserved: int
    spent: int
    expired: int


def allot(wants: Sequence[Want], stock: Mapping[Tier, int]) -> list[Tier | Shortage]:
    """Serve farmers in their order, each wholly or not at all; one who asks too much does not stop those behind."""
    left = {tier: stock.get(tier, 0) for tier in Tier}
    outcome: list[Tier | Shortage] = []
    for want in wants:
        candidates = [want.tier] if want.tier else list(Tier)
        tier = next((tier for tier in candidates if left[tier] >= want.quantity), None)
        if tier is None:
            most = max(left[candidate] for candidate in candidates)
            outcome.append(Shortage(most, want.quantity, want.tier))
        else:
            left[tier] -= want.quantity
            outcome.append(tier)
    return outcome


def most_wanted(wants: Sequence[Want]) -> dict[Tier, int]:
    """Say how many codes of each tier these could need at most."""
    most: Counter[Tier] = Counter()
    for want in wants:
        most.update(dict.fromkeys([want.tier] if want.tier else Tier, want.quantity))
    return dict(most)


def make_codes(tier: Tier, count: int) -> list[str]:
    """Make new codes nobody can guess: `M-` and 80 random bits."""
    return [f"{tier}-{''.join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))}" for _ in range(count)]
