"""From a caller's access token to who they are: EdDSA only, `typ: at+jwt` (RFC 9068), issuer, audience, expiry.

Every service checks by itself; the gateway is never the only lock.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
import warnings
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx
import orjson
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import KeySet

from shared.errors import Unauthenticated, Unavailable

# RFC 9864 prefers the name "Ed25519"; our clients know the older name of the algorithm, and the key type pins it.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

_ALGORITHMS: Final = ["EdDSA", "Ed25519"]
_TYPE: Final = "at+jwt"
_SKEW_SECONDS: Final = 5
_CACHED_TOKENS: Final = 10_000
# An unknown key id makes us ask for keys again, at most so often: forged key ids must not become a flood of requests.
_REFETCH_SECONDS: Final = 60.0
# Keys are looked at again after so long, so that one that was disabled is dropped although its tokens still come.
_RENEW_SECONDS: Final = 300.0
# After a failure, those who waited for the same keys don't wait for another one, one after the other.
_FAILED_SECONDS: Final = 1.0
_FETCH_SECONDS: Final = 5.0
_LONGEST_TOKEN: Final = 8_192
_DOTS: Final = 2  # header.claims.signature

KeySource = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in person, as their access token describes them."""

    id: int
    roles: frozenset[str]
    permissions: frozenset[str]
    on_behalf_of: frozenset[int] | Literal["all"]
    session_id: str
    token_id: str
    issued_at: int
    expires_at: int

    def has_role(self, *roles: str) -> bool:
        """Say whether they have one of these roles."""
        return not self.roles.isdisjoint(roles)

    def may_act_for(self, sponsor_id: int) -> bool:
        """Say whether they hold a grant to act for this sponsor."""
        return self.on_behalf_of == "all" or sponsor_id in self.on_behalf_of


class TokenInvalid(Unauthenticated):
    """The token is forged, expired, of another kind or for somebody else; never said which."""

    code = "TOKEN_INVALID"
    message = "Unauthorized"


class KeysUnavailable(Unavailable):
    """Nobody can be let in while there is nothing to check their tokens with."""

    code = "TOKEN_KEYS_UNAVAILABLE"
    message = "The keys to check tokens with can't be fetched. Try again later."


def keys_from(url: str) -> KeySource:
    """Fetch the issuer's public keys over HTTP."""

    async def fetch() -> Mapping[str, Any]:
        try:
            async with httpx.AsyncClient(timeout=_FETCH_SECONDS, trust_env=False) as client:
                answer = await client.get(url)
                answer.raise_for_status()
                keys: Mapping[str, Any] = answer.json()
                return keys
        except (httpx.HTTPError, ValueError) as error:
            raise KeysUnavailable from error

    return fetch


class TokenVerifier:
    """Checks access tokens; one that was found good is remembered by its SHA-256 until it expires or its key is gone.

    `renew_seconds`: how old the keys may be before they are looked at again, and so how long a key that was disabled
    is trusted at most.
    """

    def __init__(self, keys: KeySource, *, issuer: str, audience: str, renew_seconds: float = _RENEW_SECONDS) -> None:
        self._fetch = keys
        self._issuer = issuer
        self._audience = audience
        self._renew_seconds = renew_seconds
        self._keys: dict[str, Any] = {}
        self._fetched_at = -_REFETCH_SECONDS
        self._failed_at = -_FAILED_SECONDS
        self._fetching = asyncio.Lock()
        self._good: OrderedDict[bytes, Principal] = OrderedDict()
        self._good_of: dict[int, set[bytes]] = {}

    async def verify(self, token: str) -> Principal:
        """Give the person behind a token; raises TokenInvalid, or Unavailable while there are no keys."""
        if self._keys and time.monotonic() - self._fetched_at > self._renew_seconds:
            await self._renew()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._good.get(digest)
        if known is not None:
            if known.expires_at + _SKEW_SECONDS > time.time():
                return known
            self._drop(digest, known)
            raise TokenInvalid
        principal = await self._check(token)
        self._good[digest] = principal
        self._good_of.setdefault(principal.id, set()).add(digest)
        if len(self._good) > _CACHED_TOKENS:
            self._drop(*next(iter(self._good.items())))
        return principal

    def forget(self, user_id: int) -> None:
        """Check this person's tokens anew from now on; costs nothing for whoever has none here."""
        for digest in self._good_of.pop(user_id, ()):
            del self._good[digest]

    def _drop(self, digest: bytes, principal: Principal) -> None:
        del self._good[digest]
        digests = self._good_of[principal.id]
        digests.discard(digest)
        if not digests:
            del self._good_of[principal.id]

    async def _check(self, token: str) -> Principal:
        header = _header(token)
        key_id = header.get("kid")
        if header.get("typ") != _TYPE or header.get("alg") not in _ALGORITHMS or not isinstance(key_id, str):
            raise TokenInvalid
        key = await self._key(key_id)
        try:
            claims = jwt.decode(token, key, algorithms=_ALGORITHMS).claims
        except (JoseError, ValueError) as error:
            raise TokenInvalid from error
        return self._principal(claims)

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        now = time.time()
        try:
            on_time = claims["exp"] + _SKEW_SECONDS > now and claims["iat"] - _SKEW_SECONDS <= now
            if claims["iss"] != self._issuer or claims["aud"] != self._audience or not on_time:
                raise TokenInvalid
            grants = claims.get("obo", [])
            return Principal(
                id=int(claims["sub"]),
                roles=frozenset(claims["roles"]),
                permissions=frozenset(claims.get("permissions", [])),
                on_behalf_of="all" if grants == "all" else frozenset(int(grant) for grant in grants),
                session_id=str(claims["sid"]),
                token_id=str(claims["jti"]),
                issued_at=int(claims["iat"]),
                expires_at=int(claims["exp"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TokenInvalid from error

    async def _key(self, key_id: str) -> Any:
        if key_id not in self._keys:
            await self._refetch(key_id)
        try:
            return self._keys[key_id]
        except KeyError:
            raise TokenInvalid from None

    async def _refetch(self, key_id: str) -> None:
        async with self._fetching:
            now = time.monotonic()
            if key_id in self._keys or (self._keys and now - self._fetched_at < _REFETCH_SECONDS):
                return
            if now - self._failed_at < _FAILED_SECONDS:
                raise KeysUnavailable
            await self._take_keys()

    async def _renew(self) -> None:
        """Look at the keys again; while they can't be fetched, those at hand serve on."""
        if self._fetching.locked() or time.monotonic() - self._failed_at < _REFETCH_SECONDS:
            return
        async with self._fetching:
            with suppress(Unavailable):
                await self._take_keys()

    async def _take_keys(self) -> None:
        try:
            keys = _signature_keys(await self._fetch())
        except Unavailable:
            self._failed_at = time.monotonic()
            raise
        if not self._keys.keys() <= keys.keys():
            self._good_of.clear()
            self._good.clear()  # what a key signed that is trusted no longer must not live on as a memory
        self._keys, self._fetched_at = keys, time.monotonic()


def _signature_keys(document: Mapping[str, Any]) -> dict[str, Any]:
    try:
        keys = KeySet.import_key_set({"keys": [key for key in document["keys"] if _is_signature_key(key)]})
    except (JoseError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise KeysUnavailable("The keys to check tokens with can't be read.") from error
    return {str(key.kid): key for key in keys.keys}


def _header(token: str) -> Mapping[str, Any]:
    """Read the header before anything is trusted; refuses what is no compact JWS in strict base64url."""
    if len(token) > _LONGEST_TOKEN or token.count(".") != _DOTS or "=" in token or not token.isascii():
        raise TokenInvalid
    part = token.partition(".")[0]
    try:
        header = orjson.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except ValueError:
        raise TokenInvalid from None
    if not isinstance(header, dict):
        raise TokenInvalid
    return header


def _is_signature_key(key: Mapping[str, Any]) -> bool:
    """Keep Ed25519 public keys that are meant for signatures (a key with another `use` must not verify)."""
    return key.get("kty") == "OKP" and key.get("crv") == "Ed25519" and key.get("use", "sig") == "sig" and "kid" in key
