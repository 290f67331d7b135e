"""Only a token that auth signed for us, of the right kind and in its time, says who somebody is."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any

import httpx
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from shared.errors import Unavailable
from shared.identity import KeySource, TokenInvalid, TokenVerifier, keys_from
from tests.support.eventually import eventually
from tests.support.tokens import AUDIENCE, ISSUER, Issuer


class CountedKeys:
    """The keys of an issuer, and how often somebody asked for them."""

    def __init__(self, source: KeySource) -> None:
        self.source = source
        self.asked = 0

    async def __call__(self) -> Mapping[str, Any]:
        self.asked += 1
        return await self.source()


@pytest.fixture
def keys(issuer: Issuer) -> CountedKeys:
    return CountedKeys(issuer.keys)


@pytest.fixture
def verifier(keys: CountedKeys) -> TokenVerifier:
    return TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)


def encoded(part: Mapping[str, Any] | bytes) -> str:
    raw = part if isinstance(part, bytes) else orjson.dumps(part)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(part: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


async def test_a_token_says_who_somebody_is_and_what_they_may(issuer: Issuer, verifier: TokenVerifier) -> None:
    token = issuer.token(166, "Admin", "Sponsor", permissions=["audit:read"], on_behalf_of=[6, 7])

    principal = await verifier.verify(token)

    assert principal.id == 166
    assert principal.has_role("Admin")
    assert not principal.has_role("Auditor")
    assert principal.permissions == {"audit:read"}
    assert principal.may_act_for(6)
    assert not principal.may_act_for(8)


async def test_a_grant_for_all_sponsors_is_a_grant_for_each(issuer: Issuer, verifier: TokenVerifier) -> None:
    assert (await verifier.verify(issuer.token(166, "Admin", on_behalf_of="all"))).may_act_for(12345)


async def test_a_token_without_a_signature_is_refused(issuer: Issuer, verifier: TokenVerifier) -> None:
    _, claims, _ = issuer.token(6).split(".")
    for algorithm in ("none", "None", "NONE"):
        header = encoded({"alg": algorithm, "typ": "at+jwt", "kid": issuer.key.kid})
        with pytest.raises(TokenInvalid):
            await verifier.verify(f"{header}.{claims}.")


async def test_a_token_signed_with_our_public_key_as_a_shared_secret_is_refused(
    issuer: Issuer, verifier: TokenVerifier
) -> None:
    public = issuer.key.as_dict(private=False)
    for secret in (orjson.dumps(public), str(public["x"]).encode(), issuer.key.as_pem(private=False)):
        signed = f"{encoded({'alg': 'HS256', 'typ': 'at+jwt', 'kid': issuer.key.kid})}.{issuer.token(6).split('.')[1]}"
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        with pytest.raises(TokenInvalid):
            await verifier.verify(f"{signed}.{encoded(mac)}")


@pytest.mark.parametrize(
    "brought",
    [
        {"jwk": None},
        {"jku": "http://127.0.0.1:1/jwks.json"},
        {"x5u": "http://127.0.0.1:1/cert.pem"},
        {"kid": "../../null"},
    ],
    ids="".join,
)
async def test_a_key_that_the_token_brings_along_is_not_used(
    issuer: Issuer, verifier: TokenVerifier, brought: dict[str, Any]
) -> None:
    own = OKPKey.generate_key("Ed25519", {"kid": str(issuer.key.kid)})
    if "jwk" in brought:
        brought = {"jwk": own.as_dict(private=False)}
    header = {"alg": "EdDSA", "typ": "at+jwt", "kid": issuer.key.kid} | brought
    claims = decoded(issuer.token(6).split(".")[1])

    with pytest.raises(TokenInvalid):
        await verifier.verify(_sign(header, claims, own))


def _sign(header: dict[str, Any], claims: dict[str, Any], key: OKPKey) -> str:
    return jwt.encode(header, claims, key, algorithms=["EdDSA"])


@pytest.mark.parametrize("part", [0, 1, 2])
async def test_one_changed_character_is_noticed(issuer: Issuer, verifier: TokenVerifier, part: int) -> None:
    parts = issuer.token(6).split(".")
    changed = "B" if parts[part][10] != "B" else "C"
    parts[part] = parts[part][:10] + changed + parts[part][11:]

    with pytest.raises(TokenInvalid):
        await verifier.verify(".".join(parts))


async def test_a_token_of_another_kind_is_refused(issuer: Issuer, verifier: TokenVerifier) -> None:
    for kind in ("JWT", "rt+jwt", "at+JWT ", "application/at+jwt"):
        with pytest.raises(TokenInvalid):
            await verifier.verify(issuer.token(6, typ=kind))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another-hub"},
        {"aud": ["partner-hub", "another-hub"]},
        {"iss": "https://elsewhere.test/auth"},
        pytest.param({"exp": int(time.time()) - 60}, id="expired a minute ago"),
        pytest.param({"iat": int(time.time()) + 86_400}, id="issued tomorrow"),  # however long the tests before it take
        {"exp": "tomorrow"},
        {"exp": None},
        {"sub": "deniz"},
        {"roles": None},
        {"roles": 7},
        {"obo": 6},
        {"obo": ["six"]},
        {"sid": None, "exp": float("nan")},
    ],
    ids=str,
)
async def test_a_token_for_somebody_else_or_out_of_its_time_is_refused(
    issuer: Issuer, verifier: TokenVerifier, claims: dict[str, Any]
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(issuer.token(6, "Sponsor", **claims))


@pytest.mark.parametrize("missing", ["iss", "aud", "sub", "iat", "exp", "jti", "sid", "roles"])
async def test_a_token_that_lacks_a_claim_is_refused(issuer: Issuer, verifier: TokenVerifier, missing: str) -> None:
    claims = decoded(issuer.token(6).split(".")[1])
    del claims[missing]

    with pytest.raises(TokenInvalid):
        await verifier.verify(_sign({"alg": "EdDSA", "typ": "at+jwt", "kid": issuer.key.kid}, claims, issuer.key))


@pytest.mark.parametrize(
    "nonsense", ["", ".", "..", "...", "a.b.c", "ğ.ü.ş", "e30.e30.e30", "W10.W10.W10", "x" * 10_000, "bnVsbA.e30."]
)
async def test_what_is_no_token_is_refused(verifier: TokenVerifier, keys: CountedKeys, nonsense: str) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(nonsense)
    assert keys.asked == 0


async def test_a_key_for_encryption_does_not_check_signatures(issuer: Issuer) -> None:
    async def keys() -> Mapping[str, Any]:
        signing = OKPKey.generate_key("Ed25519", {"kid": "another", "use": "sig"})
        return {"keys": [signing.as_dict(private=False), issuer.key.as_dict(private=False) | {"use": "enc"}]}

    with pytest.raises(TokenInvalid):
        await TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE).verify(issuer.token(6))


async def test_keys_are_fetched_once_and_a_good_token_is_remembered(
    issuer: Issuer, verifier: TokenVerifier, keys: CountedKeys
) -> None:
    token = issuer.token(6)
    first = await verifier.verify(token)

    assert await verifier.verify(token) is first
    await verifier.verify(issuer.token(7))
    assert keys.asked == 1


async def test_a_remembered_token_is_refused_when_its_time_is_over(
    issuer: Issuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token(6)
    await verifier.verify(token)
    later = time.time() + 3_600
    monkeypatch.setattr("shared.identity.time.time", lambda: later)

    with pytest.raises(TokenInvalid):
        await verifier.verify(token)


async def test_forged_key_ids_are_asked_for_at_most_once_a_minute(
    issuer: Issuer, verifier: TokenVerifier, keys: CountedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verifier.verify(issuer.token(6))
    forged = Issuer()
    for number in range(20):
        forged.key = OKPKey.generate_key("Ed25519", {"kid": f"forged-{number}"})
        with pytest.raises(TokenInvalid):
            await verifier.verify(forged.token(6))
    assert keys.asked == 1

    in_a_minute = time.monotonic() + 61
    monkeypatch.setattr("shared.identity.time.monotonic", lambda: in_a_minute)
    for _ in range(5):
        with pytest.raises(TokenInvalid):
            await verifier.verify(forged.token(6))
    assert keys.asked == 2


async def test_a_token_of_a_new_key_is_good_as_soon_as_the_key_is_published(
    issuer: Issuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = issuer.token(6)
    await verifier.verify(old)
    issuer.key = OKPKey.generate_key("Ed25519", {"kid": "next-key", "use": "sig"})
    in_a_minute = time.monotonic() + 61
    monkeypatch.setattr("shared.identity.time.monotonic", lambda: in_a_minute)

    assert (await verifier.verify(issuer.token(7))).id == 7


async def test_without_keys_nobody_is_let_in_and_it_is_not_their_fault(issuer: Issuer) -> None:
    verifier = TokenVerifier(keys_from("http://127.0.0.1:1/jwks.json"), issuer=ISSUER, audience=AUDIENCE)

    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token(6))


async def test_those_who_wait_for_keys_that_do_not_come_do_not_wait_one_after_the_other(issuer: Issuer) -> None:
    async def keys() -> Mapping[str, Any]:
        await asyncio.sleep(0.2)
        raise Unavailable

    counted = CountedKeys(keys)
    verifier = TokenVerifier(counted, issuer=ISSUER, audience=AUDIENCE)
    answers = await asyncio.gather(*(verifier.verify(issuer.token(6)) for _ in range(50)), return_exceptions=True)

    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert counted.asked == 1


async def test_keys_that_come_late_let_everybody_in(issuer: Issuer) -> None:
    answers: list[Any] = [Unavailable(), None]

    async def keys() -> Mapping[str, Any]:
        if (problem := answers.pop(0)) is not None:
            raise problem
        return await issuer.keys()

    verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)
    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token(6))

    async def is_let_in() -> bool:
        try:
            return (await verifier.verify(issuer.token(6))).id == 6
        except Unavailable:
            return False

    assert await eventually(is_let_in)


async def test_known_keys_go_on_working_while_new_ones_can_not_be_fetched(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [None, Unavailable()]

    async def keys() -> Mapping[str, Any]:
        if (problem := answers.pop(0)) is not None:
            raise problem
        return await issuer.keys()

    verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)
    await verifier.verify(issuer.token(6))
    in_a_minute = time.monotonic() + 61
    monkeypatch.setattr("shared.identity.time.monotonic", lambda: in_a_minute)
    forged = Issuer()
    forged.key = OKPKey.generate_key("Ed25519", {"kid": "forged"})
    with pytest.raises(Unavailable):
        await verifier.verify(forged.token(6))

    assert (await verifier.verify(issuer.token(7))).id == 7


@pytest.mark.parametrize("document", [b"", b"<html>", b"[]", b'{"keys": null}', b'{"keys": [7]}', b"{}"])
async def test_a_page_that_holds_no_keys_is_unavailable_not_a_crash(issuer: Issuer, document: bytes) -> None:
    async def keys() -> Mapping[str, Any]:
        # What keys_from makes of the same bytes.
        try:
            return httpx.Response(200, content=document).json()  # type: ignore[no-any-return]
        except ValueError as error:
            raise Unavailable from error

    with pytest.raises(Unavailable):
        await TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE).verify(issuer.token(6))


async def test_somebody_whose_rights_changed_is_checked_anew(issuer: Issuer, verifier: TokenVerifier) -> None:
    token, other = issuer.token(6), issuer.token(7)
    first, second = await verifier.verify(token), await verifier.verify(other)

    verifier.forget(6)

    assert await verifier.verify(token) is not first
    assert await verifier.verify(other) is second


async def test_a_key_that_was_disabled_is_dropped_although_its_tokens_still_come(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = [issuer.key.as_dict(private=False)]

    async def page() -> Mapping[str, Any]:
        return {"keys": published or [Issuer().key.as_dict(private=False) | {"kid": "another"}]}

    keys = CountedKeys(page)
    verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, renew_seconds=600)
    remembered = issuer.token(1, "Admin", exp=int(time.time()) + 1_000_000)
    await verifier.verify(remembered)
    published.clear()
    await verifier.verify(issuer.token(2, "Admin"))  # the keys are not old enough to be looked at again
    assert keys.asked == 1
    later = time.monotonic() + 601
    monkeypatch.setattr("shared.identity.time.monotonic", lambda: later)
    for token in (remembered, issuer.token(3, "Admin")):
        with pytest.raises(TokenInvalid):
            await verifier.verify(token)


async def test_keys_that_can_not_be_renewed_serve_on(issuer: Issuer) -> None:
    away = False

    async def page() -> Mapping[str, Any]:
        if away:
            raise Unavailable
        return await issuer.keys()

    keys = CountedKeys(page)
    verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, renew_seconds=0.0)
    await verifier.verify(issuer.token(1, "Admin"))
    away = True
    for user_id in (2, 3):
        assert (await verifier.verify(issuer.token(user_id, "Admin"))).id == user_id
    assert keys.asked == 2, "after a failure they are not asked for with every token"


async def test_forgetting_somebody_touches_nobody_else_and_leaves_nothing_behind(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    tokens = {person: [issuer.token(person) for _ in range(3)] for person in (1, 2)}
    for token in (token for own in tokens.values() for token in own):
        await verifier.verify(token)
    verifier.forget(1)
    verifier.forget(3)
    assert {principal.id for principal in verifier._good.values()} == {2}
    assert set(verifier._good_of) == {2}
    assert (await verifier.verify(tokens[1][0])).id == 1


async def test_only_so_many_tokens_are_remembered(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.identity._CACHED_TOKENS", 5)
    verifier = issuer.verifier()
    for person in range(20):
        await verifier.verify(issuer.token(person))
    assert len(verifier._good) == len(verifier._good_of) == 5
