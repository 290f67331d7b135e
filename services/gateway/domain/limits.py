"""How often somebody may call: token buckets, kept as one number per caller (the generic cell rate algorithm)."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Final, NamedTuple

_V6_SITE: Final = (1 << 64) - 1


class Allowance(NamedTuple):
    """What is left of a bucket after one call."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int


class TokenBuckets:
    """Buckets of one size, one per key: full at first, refilled evenly over a minute.

    For each key we keep the moment at which its bucket is full again. Beyond `max_keys` the ones that were used the
    longest ago are forgotten, so a flood of addresses can't eat the memory.
    """

    __slots__ = ("_full_at", "_interval", "_max_keys", "_per_minute")

    def __init__(self, per_minute: int, *, max_keys: int = 50_000) -> None:
        self._per_minute = per_minute
        self._interval = 60.0 / per_minute
        self._max_keys = max_keys
        self._full_at: dict[str | int, float] = {}

    def take(self, key: str | int, now: float) -> Allowance:
        """Take one token of this key's bucket, if there is one."""
        waiting = max(self._full_at.pop(key, now) - now, 0.0)
        allowed = waiting + self._interval <= 60.0 + 1e-6
        if allowed:
            waiting += self._interval
        self._full_at[key] = now + waiting
        if len(self._full_at) > self._max_keys:
            del self._full_at[next(iter(self._full_at))]
        remaining = int((60.0 - waiting) / self._interval + 1e-6)
        reset = waiting if allowed else waiting + self._interval - 60.0
        return Allowance(allowed, self._per_minute, remaining, max(1, ceil(reset)))

    def __len__(self) -> int:
        return len(self._full_at)


def address_key(address: str) -> str:
    """Count an IPv4 address by itself and an IPv6 address by its /64: whoever has one of those has all of them."""
    if ":" not in address:
        return address
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return f"{IPv6Address(int(parsed) & ~_V6_SITE)}/64"
    return str(getattr(parsed, "ipv4_mapped", parsed))
