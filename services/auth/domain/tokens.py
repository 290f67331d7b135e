"""Access tokens and reset tokens: made and read here, each kind with its own `typ` and `aud`.

Two kinds that no verifier can confuse (RFC 8725 §3.11, §3.12): a reset token is no bearer token and an access token
resets nothing. Reading takes the algorithm from us, never from the token, and knows keys by id only (RFC 8725 §3.1,
§3.10).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from joserfc import jws, jwt
from joserfc.errors import JoseError

from services.auth.domain.accounts import Account, permissions_of
from services.auth.domain.errors import ResetTokenInvalid
from services.auth.domain.keys import ALGORITHM, KeyRing, SigningKey

ACCESS_TYPE: Final = "at+jwt"  # RFC 9068 §2.1
RESET_TYPE: Final = "pwreset+jwt"
RESET_AUDIENCE: Final = "auth:password-reset"
_JTI_BYTES: Final = 16  # 128 bits from the system's generator; a UUID has fewer (ASVS 11.5.1)
_LONGEST: Final = 2048


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs, for whom, with what."""

    name: str
    audience: str
    signing: SigningKey

    def _sign(self, kind: str, claims: dict[str, Any]) -> str:
        header = {"alg": ALGORITHM, "typ": kind, "kid": self.signing.kid}
        return jwt.encode(header, claims, self.signing.key, algorithms=[ALGORITHM])

    def access_token(
        self, account: Account, roles: frozenset[str], session_id: UUID, *, now: datetime, until: datetime
    ) -> str:
        """Make the token that a client shows with each call."""
        grants = account.grants_at(now) if roles else frozenset[int]()
        claims = {
            "iss": self.name,
            "aud": self.audience,
            "sub": str(account.id),
            "client_id": self.audience,  # RFC 9068 §2.2 requires it; there is one client, the console's API
            "iat": int(now.timestamp()),
            "exp": int(until.timestamp()),
            "jti": new_token_id(),
            "sid": str(session_id),
            "roles": sorted(roles),
            "permissions": sorted(permissions_of(roles)),
            "obo": grants if grants == "all" else sorted(grants),
        }
        return self._sign(ACCESS_TYPE, claims)

    def reset_token(self, account_id: int, token_id: str, epoch: int, *, now: datetime, until: datetime) -> str:
        """Make the token that lets its holder set a new password, once."""
        claims = {
            "iss": self.name,
            "aud": RESET_AUDIENCE,
            "sub": str(account_id),
            "iat": int(now.timestamp()),
            "exp": int(until.timestamp()),
            "jti": token_id,
            "cep": epoch,
        }
        return self._sign(RESET_TYPE, claims)


@dataclass(frozen=True, slots=True)
class ResetClaims:
    """What a genuine reset token says."""

    account_id: int
    token_hash: str
    epoch: int


def read_reset_token(token: str, ring: KeyRing, issuer: str) -> ResetClaims:
    """Read a reset token; raises ResetTokenInvalid, whatever is wrong with it."""
    try:
        claims = _verified(token, ring)
        _check_claims(claims, issuer, ring.now)
        return ResetClaims(int(claims["sub"]), token_hash(claims["jti"]), int(claims["cep"]))
    except (JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # The last one: a header of a thousand nested brackets.
        raise ResetTokenInvalid from None


def new_token_id() -> str:
    """Make an id that nobody can guess."""
    return secrets.token_urlsafe(_JTI_BYTES)


def token_hash(token_id: str) -> str:
    """Give the form in which the database knows a token: by its id, so that no respelling is another token."""
    return hashlib.sha256(token_id.encode()).hexdigest()


def _verified(token: str, ring: KeyRing) -> dict[str, Any]:
    if len(token) > _LONGEST:
        raise ValueError("no token of ours is that long")
    header = jws.extract_compact(token.encode("ascii")).headers()
    key = ring.verifying(header.get("kid"))
    if header.get("typ") != RESET_TYPE or key is None:
        raise ValueError("another kind of token, or an unknown key")
    return dict(jwt.decode(token, key, algorithms=[ALGORITHM]).claims)


def _check_claims(claims: dict[str, Any], issuer: str, now: datetime) -> None:
    if claims["iss"] != issuer or claims["aud"] != RESET_AUDIENCE:
        raise ValueError("made by or for somebody else")
    if claims["exp"] <= now.timestamp():
        raise ValueError("expired")


@dataclass(frozen=True, slots=True)
class TokenLifetimes:
    """How long each kind of token lives."""

    access: timedelta = timedelta(minutes=10)
    reset: timedelta = timedelta(minutes=30)
    first_password: timedelta = timedelta(hours=24)  # NIST SP 800-63B-4 §4.2.1.2: an e-mailed code lives 24 h at most

    def reset_for(self, purpose: Literal["reset", "first"]) -> timedelta:
        """Give the lifetime of a reset token made for this purpose."""
        return self.reset if purpose == "reset" else self.first_password

    @property
    def longest(self) -> timedelta:
        """Give the time for which a replaced signing key must still verify."""
        return max(self.access, self.reset, self.first_password)
