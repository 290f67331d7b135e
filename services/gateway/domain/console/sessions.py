"""What the console remembers of a browser: sealed into its cookie; every replica can read it, and no script.

A cookie holds at most 4,096 bytes with its name (RFC 6265, 6.1), and a token with many grants is longer: then the
sealed text goes on in a second and third cookie.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import orjson

from shared.sealing import CannotOpen, Sealer

_BOUND_TO: Final = "console session"
_PIECE: Final = 3_800
_MOST_PIECES: Final = 3
_MOST_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in, as auth said."""

    id: int
    email: str
    full_name: str
    roles: tuple[str, ...]
    must_enrol: bool = False

    @classmethod
    def of(cls, tokens: Mapping[str, Any]) -> Self:
        """Read auth's answer to a sign-in or a refresh."""
        user = tokens["user"]
        must_enrol = bool(tokens.get("second_factor_enrolment_required", False))
        return cls(user["id"], user["email"], user["full_name"], tuple(user["roles"]), must_enrol)

    def has_role(self, *roles: str) -> bool:
        """Say whether they have one of these roles."""
        return not set(roles).isdisjoint(self.roles)


@dataclass(frozen=True, slots=True)
class Session:
    """One browser: `form_key` ties forms to it, tokens and person are there once somebody has signed in."""

    form_key: str
    access_token: str = ""
    refresh_token: str = ""
    expires_at: float = 0.0
    person: Person | None = None

    @classmethod
    def fresh(cls) -> Self:
        """Begin with a browser that nobody has signed in with."""
        return cls(form_key=secrets.token_urlsafe(18))

    def signed_in(self, tokens: Mapping[str, Any], now: float) -> Session:
        """Take the tokens of a sign-in: forms that were open before it count no more."""
        return replace(Session.fresh(), **_held(tokens, now))

    def refreshed(self, tokens: Mapping[str, Any], now: float) -> Session:
        """Take the tokens of a refresh: open forms stay good."""
        return replace(self, **_held(tokens, now))

    def fits(self, form_key: str | None) -> bool:
        """Say whether a form came from a page that this browser was given."""
        return form_key is not None and hmac.compare_digest(self.form_key.encode(), form_key.encode())


def _held(tokens: Mapping[str, Any], now: float) -> dict[str, Any]:
    return {
        "access_token": tokens["access_token"],
        "refresh_token": tokens["refresh_token"],
        "expires_at": now + tokens["expires_in"],
        "person": Person.of(tokens),
    }


def seal(session: Session, sealer: Sealer) -> list[str]:
    """Give the values of the cookies that hold a session, the first of which is always there."""
    packed = zlib.compress(orjson.dumps(asdict(session)), 9)
    text = base64.urlsafe_b64encode(sealer.seal(packed, bound_to=_BOUND_TO)).rstrip(b"=").decode()
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    if len(pieces) > _MOST_PIECES:
        raise ValueError("the access token is too long for a browser's cookies")
    return pieces


def open_sealed(pieces: list[str], sealer: Sealer) -> Session | None:
    """Read what `seal` made; None for what is damaged, forged or sealed with a key that is no longer known."""
    text = "".join(pieces[:_MOST_PIECES])
    try:
        packed = sealer.open(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), bound_to=_BOUND_TO)
        inflated = zlib.decompressobj().decompress(packed, _MOST_BYTES)
        content: dict[str, Any] = orjson.loads(inflated)
        person = content.pop("person")
        known = None if person is None else Person(**{**person, "roles": tuple(person["roles"])})
        return Session(**content, person=known)
    except (CannotOpen, binascii.Error, zlib.error, ValueError, TypeError, KeyError):
        return None


def cookie_names(*, secure: bool) -> list[str]:
    """Name the cookies; a browser takes `__Host-` only with Secure, for this host alone and for all of it."""
    first = "__Host-console" if secure else "console"
    return [first, *(f"{first}-{number}" for number in range(2, _MOST_PIECES + 1))]
