"""Whose word about the client's address counts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network


class Networks:
    """A set of address ranges."""

    def __init__(self, ranges: Iterable[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(text, strict=False) for text in ranges]
        self.include = lru_cache(maxsize=4_096)(self._include)

    def _include(self, address: str) -> bool:
        if not is_address(address):
            return False
        parsed = ip_address(address)
        # On a socket of both families an IPv4 client has an address of IPv6 (RFC 4291, 2.5.5.2).
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)


def is_address(text: str) -> bool:
    """Tell whether this is an IP address and nothing else."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def client_address(peer: str, forwarded_for: bytes | None, proxies: Networks) -> str:
    """Say who the client is: read from the right, the nearest address that is no proxy of ours."""
    if forwarded_for is None or not proxies or not proxies.include(peer):
        return peer
    client = peer
    for hop in reversed(forwarded_for.decode("latin-1").split(",")):
        address = hop.strip()
        if not is_address(address):
            break
        client = address
        if not proxies.include(address):
            break
    return client
