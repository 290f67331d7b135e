"""Signing keys: rotated at no cost, disabled at once, sealed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.auth.app import own_keys
from services.auth.commands.keys import disable_key, key_ring, reseal_keys, rotate_keys
from services.auth.domain.errors import KeyNotFound
from shared.events.audit import Actor
from shared.identity import TokenInvalid, TokenVerifier
from shared.sealing import Sealer
from tests.auth.conftest import OTHER_PASSWORD, Auth
from tests.support.eventually import eventually

ADMIN = "admin@example.com"
OPERATOR = Actor(kind="operator")


async def test_a_rotation_costs_no_token_its_validity(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    before = await auth.token_of(ADMIN)
    async with auth.context.database.transaction() as conn:
        await rotate_keys(conn, auth.context.sealer, auth.context.rules, actor=OPERATOR, now=auth.clock())
    assert len((await auth.client.get("/.well-known/jwks.json")).json()["keys"]) == 2
    during = await auth.token_of(ADMIN)
    await auth.execute("UPDATE signing_keys SET signs_from = signs_from - interval '6 minutes'")
    after = await auth.token_of(ADMIN)
    kids = {token.partition(".")[0] for token in (before, during, after)}
    assert len(kids) == 2, "the new key signs now, the old one signed before"
    assert [(await auth.call("GET", "/me", token=token)).status_code for token in (before, during, after)] == [200] * 3


async def test_the_old_key_ends_only_when_nothing_it_signed_can_live(auth: Auth) -> None:
    async with auth.context.database.transaction() as conn:
        await key_ring(conn, auth.context.sealer, auth.clock())
        new = await rotate_keys(conn, auth.context.sealer, auth.context.rules, actor=OPERATOR, now=auth.clock())
        ring = await key_ring(conn, auth.context.sealer, auth.clock())
    old = next(key for key in ring.keys if key.kid != new.kid)
    assert old.ends_at is not None
    assert old.ends_at >= new.signs_from + auth.context.rules.lifetimes.longest
    assert new.signs_from - auth.clock() > timedelta(minutes=4)


async def test_a_disabled_key_is_not_trusted_any_more(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    reset, access = await auth.reset_token(ADMIN), await auth.token_of(ADMIN)
    assert (await auth.call("GET", "/me", token=access)).status_code == 200
    kid = (await auth.client.get("/.well-known/jwks.json")).json()["keys"][0]["kid"]
    async with auth.context.database.transaction() as conn:
        await disable_key(conn, auth.context.sealer, kid, actor=OPERATOR, now=auth.clock())
    assert kid not in (await auth.client.get("/.well-known/jwks.json")).text
    refused = await auth.post("/reset-password", {"token": reset, "new_password": OTHER_PASSWORD})
    assert refused.json()["code"] == "RESET_TOKEN_INVALID"

    async def is_refused() -> bool:
        return (await auth.call("GET", "/me", token=access)).status_code == 401

    await eventually(is_refused, what="the end of an access token that was good before")
    assert (await auth.login(ADMIN)).status_code == 200, "a new key is made at once"
    with pytest.raises(KeyNotFound):
        async with auth.context.database.transaction() as conn:
            await disable_key(conn, auth.context.sealer, "unknown", actor=OPERATOR, now=auth.clock())


async def test_other_services_forget_a_disabled_key_when_they_meet_the_new_one(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    seen, unseen = await auth.token_of(ADMIN), await auth.token_of(ADMIN)
    rules = auth.context.rules
    verifier = TokenVerifier(own_keys(auth.context), issuer=rules.issuer, audience=rules.audience)
    kid = (await auth.client.get("/.well-known/jwks.json")).json()["keys"][0]["kid"]
    assert (await verifier.verify(seen)).has_role("Admin")
    async with auth.context.database.transaction() as conn:
        await disable_key(conn, auth.context.sealer, kid, actor=OPERATOR, now=auth.clock())
    verifier._fetched_at -= 61  # the keys were fetched more than a minute ago
    assert (await verifier.verify(await auth.token_of(ADMIN))).has_role("Admin")
    with pytest.raises(TokenInvalid):
        await verifier.verify(unseen)


async def test_the_private_key_is_sealed_and_moves_to_the_newest_secret_key(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.token_of(ADMIN)
    newer = Sealer([b"n" * 32, b"partner-hub development only key"])
    async with auth.context.database.transaction() as conn:
        assert b"PRIVATE KEY" not in await conn.fetchval("SELECT sealed_private FROM signing_keys")
        assert await reseal_keys(conn, newer) == 1
        assert await reseal_keys(conn, newer) == 0
    object.__setattr__(auth.context, "sealer", newer)
    assert (await auth.login(ADMIN)).status_code == 200
