"""Signing keys: published before they sign, kept while what they signed may still be shown.

Everything follows from times, so that no process has to flip a state and no two processes can disagree: the newest key
whose `signs_from` has come signs (active); the others verify (passive) until `ends_at` (disabled).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

# RFC 9864 prefers the name "Ed25519"; verifiers everywhere know the older name, and the key type pins the curve.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

ALGORITHM: Final = "EdDSA"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key pair as the database has it."""

    kid: str
    public: dict[str, Any]
    sealed_private: bytes
    signs_from: datetime
    ends_at: datetime | None

    @property
    def bound_to(self) -> str:
        """Name the row for the seal."""
        return f"signing_keys/{self.kid}"

    def is_disabled(self, now: datetime) -> bool:
        """Say whether nothing signed with it counts any more."""
        return self.ends_at is not None and self.ends_at <= now


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys at one moment."""

    keys: Sequence[StoredKey]
    now: datetime

    @property
    def active(self) -> StoredKey | None:
        """Give the key that signs."""
        ready = [key for key in self.published if key.signs_from <= self.now]
        return max(ready, key=lambda key: key.signs_from, default=None)

    @property
    def published(self) -> list[StoredKey]:
        """Give the keys that verify."""
        return [key for key in self.keys if not key.is_disabled(self.now)]

    def state_of(self, key: StoredKey) -> Literal["active", "passive", "disabled"]:
        """Name the state for an operator."""
        if key.is_disabled(self.now):
            return "disabled"
        return "active" if key == self.active else "passive"

    def verifying(self, kid: object) -> OKPKey | None:
        """Give the public key of this id, if there is one and it is not disabled."""
        found = next((key for key in self.published if key.kid == kid), None)
        return OKPKey.import_key(found.public) if found else None

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """Give the public keys as clients fetch them (RFC 7517)."""
        return {"keys": [key.public for key in self.published]}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An opened private key, ready to sign."""

    kid: str
    key: OKPKey


def new_key_pair() -> tuple[str, dict[str, Any], bytes]:
    """Make a key pair: its id (RFC 7638 thumbprint), the public JWK, the private key to be sealed."""
    pair = OKPKey.generate_key("Ed25519")
    kid = pair.thumbprint()
    public = {**pair.as_dict(private=False), "kid": kid, "use": "sig", "alg": ALGORITHM}
    return kid, public, pair.as_pem(private=True)


def open_key(kid: str, private_pem: bytes) -> SigningKey:
    """Make a signing key of an unsealed private key."""
    return SigningKey(kid, OKPKey.import_key(private_pem))
