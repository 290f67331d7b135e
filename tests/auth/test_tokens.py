"""Tokens that must not be confused, forged, respelled or outlive their key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from services.auth.domain.errors import ResetTokenInvalid
from services.auth.domain.keys import KeyRing, SigningKey, StoredKey, new_key_pair, open_key
from services.auth.domain.tokens import RESET_AUDIENCE, RESET_TYPE, Issuer, read_reset_token
from tests.auth.conftest import OTHER_PASSWORD, Auth
from tests.auth.test_domain import an_account

NOW = datetime.now(UTC).replace(microsecond=0)
ISSUER = "https://partner-hub.local/auth"


class Keys:
    """A key pair that signs, and the ring that verifies."""

    def __init__(self) -> None:
        kid, public, private = new_key_pair()
        self.signing: SigningKey = open_key(kid, private)
        self.stored = StoredKey(kid, public, b"", NOW - timedelta(hours=1), None)
        self.ring = KeyRing([self.stored], NOW)
        self.issuer = Issuer(ISSUER, "partner-hub", self.signing)

    def reset(self, **changes: Any) -> str:
        """Sign a reset token with some claims changed or, with None, left out."""
        claims = {
            "iss": ISSUER,
            "aud": RESET_AUDIENCE,
            "sub": "1",
            "iat": int(NOW.timestamp()),
            "exp": int(NOW.timestamp()) + 1800,
            "jti": "jti",
            "cep": 0,
        } | changes
        return self.sign({}, {name: value for name, value in claims.items() if value is not None})

    def sign(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        full = {"alg": "EdDSA", "typ": RESET_TYPE, "kid": self.signing.kid} | header
        return signed(full, claims, self.signing.key)


def signed(header: dict[str, Any], claims: dict[str, Any], key: OKPKey) -> str:
    """Sign whatever it is; None leaves a header out."""
    kept = {name: value for name, value in header.items() if value is not None}
    return jwt.encode(kept, claims, key, algorithms=["EdDSA"], default_type=None)


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def header_of(token: str) -> dict[str, Any]:
    head = token.partition(".")[0]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(head + "=="))
    return read


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=="))
    return read


def test_an_access_token_is_one_by_its_type_and_claims() -> None:
    keys = Keys()
    token = keys.issuer.access_token(
        an_account(), frozenset({"Admin"}), uuid4(), now=NOW, until=NOW + timedelta(minutes=10)
    )
    assert header_of(token) == {"alg": "EdDSA", "typ": "at+jwt", "kid": keys.signing.kid}
    claims = claims_of(token)
    assert set(claims) >= {"iss", "aud", "sub", "iat", "exp", "jti", "sid", "roles", "permissions", "obo", "client_id"}
    assert claims["exp"] - claims["iat"] == 600
    assert claims["obo"] == "all"
    assert "email" not in claims


def test_a_good_reset_token_is_read() -> None:
    keys = Keys()
    assert read_reset_token(keys.reset(), keys.ring, ISSUER).account_id == 1


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "jti", "cep"])
def test_a_reset_token_without_one_of_its_claims_is_none(claim: str) -> None:
    keys = Keys()
    with pytest.raises(ResetTokenInvalid):
        read_reset_token(keys.reset(**{claim: None}), keys.ring, ISSUER)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.example.com"},
        {"aud": "partner-hub"},
        {"aud": ["auth:password-reset", "partner-hub"]},
        {"exp": int(NOW.timestamp())},
        {"exp": "tomorrow"},
        {"sub": "nobody"},
        {"jti": 7},
        {"jti": ["jti"]},
    ],
)
def test_a_reset_token_with_a_wrong_claim_is_none(changes: dict[str, Any]) -> None:
    keys = Keys()
    with pytest.raises(ResetTokenInvalid):
        read_reset_token(keys.reset(**changes), keys.ring, ISSUER)


@pytest.mark.parametrize("kind", ["at+jwt", "JWT", "", None, "pwreset", "PWRESET+JWT "])
def test_another_type_of_token_resets_nothing(kind: str | None) -> None:
    keys = Keys()
    with pytest.raises(ResetTokenInvalid):
        read_reset_token(keys.sign({"typ": kind}, claims_of(keys.reset())), keys.ring, ISSUER)


def test_unsigned_and_misdirected_signatures_are_refused() -> None:
    keys = Keys()
    good = keys.reset()
    body, signature = good.split(".")[1:]
    public = json.dumps(keys.stored.public).encode()
    stranger = OKPKey.generate_key("Ed25519")
    forged = [
        *(
            f"{part({'alg': alg, 'typ': RESET_TYPE, 'kid': keys.signing.kid})}.{body}."
            for alg in ("none", "None", "nOnE")
        ),
        f"{part({'alg': 'none', 'typ': RESET_TYPE})}.{body}.{signature}",
        _with_hmac(part({"alg": "HS256", "typ": RESET_TYPE, "kid": keys.signing.kid}), body, public),
        jwt.encode(
            {"alg": "EdDSA", "typ": RESET_TYPE, "kid": keys.signing.kid, "jwk": stranger.as_dict(private=False)},
            claims_of(good),
            stranger,
            algorithms=["EdDSA"],
        ),
        *(
            jwt.encode({"alg": "EdDSA", "typ": RESET_TYPE, "kid": kid}, claims_of(good), stranger, algorithms=["EdDSA"])
            for kid in (keys.signing.kid, "../../dev/null", "' OR 1=1 --", "http://127.0.0.1/jwks.json")
        ),
    ]
    for token in forged:
        with pytest.raises(ResetTokenInvalid):
            read_reset_token(token, keys.ring, ISSUER)


def _with_hmac(header: str, body: str, secret: bytes) -> str:
    signature = hmac.digest(secret, f"{header}.{body}".encode(), hashlib.sha256)
    return f"{header}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_a_respelled_token_is_no_second_token() -> None:
    keys = Keys()
    good = keys.reset()
    for respelled in (good + "=", good + "\n", " " + good, good[:-1] + ("A" if good[-1] != "A" else "B"), good + ".x"):
        try:
            claims = read_reset_token(respelled, keys.ring, ISSUER)
        except ResetTokenInvalid:
            continue
        # What still verifies is known by its id, so its use is the use of the one token.
        assert claims == read_reset_token(good, keys.ring, ISSUER)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "x" * 5_000, part({"alg": "EdDSA"}) + "..", "\x00"])
def test_rubbish_is_refused_quietly(token: str) -> None:
    with pytest.raises(ResetTokenInvalid):
        read_reset_token(token, Keys().ring, ISSUER)


def test_a_header_of_nested_brackets_is_refused_quietly() -> None:
    head = base64.urlsafe_b64encode(b"[" * 1_400).rstrip(b"=").decode()
    with pytest.raises(ResetTokenInvalid):
        read_reset_token(f"{head}.e30.e30", Keys().ring, ISSUER)


# --- key ring


def a_key(name: str, signs_from: datetime, ends_at: datetime | None = None) -> StoredKey:
    return StoredKey(name, {"kid": name}, b"", signs_from, ends_at)


def test_a_new_key_is_published_before_it_signs() -> None:
    old, new = a_key("old", NOW - timedelta(days=90)), a_key("new", NOW + timedelta(minutes=5))
    before, after = KeyRing([old, new], NOW), KeyRing([old, new], NOW + timedelta(minutes=5))
    assert [key["kid"] for key in before.jwks()["keys"]] == ["old", "new"]
    assert before.active == old
    assert after.active == new
    assert [before.state_of(key) for key in (old, new)] == ["active", "passive"]
    assert [after.state_of(key) for key in (old, new)] == ["passive", "active"]


def test_an_ended_key_neither_signs_nor_verifies() -> None:
    ended = a_key("ended", NOW - timedelta(days=90), ends_at=NOW)
    ring = KeyRing([ended], NOW)
    assert ring.active is None
    assert ring.jwks() == {"keys": []}
    assert ring.verifying("ended") is None
    assert ring.state_of(ended) == "disabled"


# --- over HTTP


async def test_a_reset_token_is_no_bearer_token_and_an_access_token_resets_nothing(auth: Auth) -> None:
    await auth.add("admin@example.com", "Admin")
    access = await auth.token_of("admin@example.com")
    reset = await auth.reset_token("admin@example.com")
    refused = await auth.call("GET", "/me", token=reset)
    assert refused.status_code == 401
    answer = await auth.post("/reset-password", {"token": access, "new_password": OTHER_PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (400, "RESET_TOKEN_INVALID")
    # The confusion used nothing up.
    assert (await auth.post("/reset-password", {"token": reset, "new_password": OTHER_PASSWORD})).status_code == 200


async def test_forged_bearer_tokens_are_refused(auth: Auth) -> None:
    await auth.add("admin@example.com", "Admin")
    good = await auth.token_of("admin@example.com")
    body, signature = good.split(".")[1:]
    head = header_of(good)
    stranger = OKPKey.generate_key("Ed25519")
    public = json.dumps((await auth.client.get("/.well-known/jwks.json")).json()["keys"][0]).encode()
    forged = [
        f"{part(head | {'alg': 'none'})}.{body}.",
        f"{part(head | {'alg': 'nOnE'})}.{body}.{signature}",
        _with_hmac(part(head | {"alg": "HS256"}), body, public),
        jwt.encode(head | {"jwk": stranger.as_dict(private=False)}, claims_of(good), stranger, algorithms=["EdDSA"]),
        f"{part(head)}.{part(claims_of(good) | {'roles': ['Admin'], 'sub': '1'})}.{signature}",
        good + "=",
        good[:-4],
    ]
    for token in forged:
        answer = await auth.call("GET", "/me", token=token)
        assert answer.status_code == 401, token
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await auth.call("GET", "/me", token=good)).status_code == 200


async def test_tokens_of_a_key_signed_with_the_wrong_claims_are_refused(auth: Auth) -> None:
    """The service's own key is in the test's hands here: only the claims differ from a good token."""
    await auth.add("admin@example.com", "Admin")
    other = await auth.add("other@example.com", "Admin")
    good = await auth.token_of("admin@example.com")
    async with auth.context.database.connection() as conn:
        row = await conn.fetchrow("SELECT kid, sealed_private FROM signing_keys")
    assert row is not None
    private = auth.context.sealer.open(row["sealed_private"], bound_to=f"signing_keys/{row['kid']}")
    key, head, claims = open_key(row["kid"], private).key, header_of(good), claims_of(good)
    wrong: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"typ": "JWT"}, {}),
        ({"typ": None}, {}),
        ({"typ": RESET_TYPE}, {}),
        ({}, {"iss": "https://elsewhere.example.com"}),
        ({}, {"aud": RESET_AUDIENCE}),
        ({}, {"exp": int(time.time()) - 60}),
        ({}, {"iat": int(time.time()) + 3600}),
        ({}, {"sid": "not-a-session"}),
        ({}, {"sid": str(uuid4())}),
        ({}, {"sub": str(other)}),
        *(({}, {claim: ...}) for claim in ("iss", "aud", "sub", "exp", "iat", "jti", "sid", "roles")),
    ]
    for header, change in wrong:
        body = {name: value for name, value in (claims | change).items() if value is not ...}
        answer = await auth.call("GET", "/me", token=signed(head | header, body, key))
        assert answer.status_code == 401, (header, change, answer.text)
    same = signed(head, claims, key)
    assert (await auth.call("GET", "/me", token=same)).status_code == 200
