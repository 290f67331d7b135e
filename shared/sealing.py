"""Authenticated encryption of what must not be readable in the database.

Sealed = version byte, id of the key (first 4 bytes of its SHA-256), 12 bytes nonce, AES-256-GCM ciphertext and tag.
`bound_to` names the row (associated data, NIST SP 800-38D), so that a sealed value can't be moved to another row.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


class CannotOpen(Exception):
    """None of the configured keys opens this: wrong key, damaged, or moved from another row."""


class Sealer:
    """Seals with the first key, opens with any, so that a key can be replaced without a stop."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise ValueError("sealing needs one or more keys of 32 bytes each")
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._newest = _key_id(keys[0])

    def seal(self, plain: bytes, *, bound_to: str) -> bytes:
        """Seal bytes for one row."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, plain, bound_to.encode())

    def open(self, sealed: bytes, *, bound_to: str) -> bytes:
        """Open what was sealed for this row; raises CannotOpen."""
        key_id, nonce, body = _split(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CannotOpen(f"sealed with key {key_id.hex()}, which is not among the configured keys")
        try:
            return cipher.decrypt(nonce, body, bound_to.encode())
        except InvalidTag:
            raise CannotOpen("damaged, or sealed for another row") from None

    def is_newest(self, sealed: bytes) -> bool:
        """Say whether this was sealed with the first key."""
        return _split(sealed)[0] == self._newest


def parse_keys(text: str) -> list[bytes]:
    """Read comma-separated base64 keys of 32 bytes; raises ValueError in words for the operator."""
    try:
        keys = [base64.b64decode(part.strip(), validate=True) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError("each key must be base64") from None
    if not keys or any(len(key) != _KEY_BYTES for key in keys):
        raise ValueError("give one or more keys, comma-separated, each 32 random bytes in base64")
    return keys


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_KEY_ID_BYTES]


def _split(sealed: bytes) -> tuple[bytes, bytes, bytes]:
    head = 1 + _KEY_ID_BYTES
    if len(sealed) < head + _NONCE_BYTES or sealed[:1] != _VERSION:
        raise CannotOpen("not a sealed value")
    return sealed[1:head], sealed[head : head + _NONCE_BYTES], sealed[head + _NONCE_BYTES :]
