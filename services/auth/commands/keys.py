"""Signing keys: the first one, rotation, disabling."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from services.auth.commands.evidence import note
from services.auth.domain.errors import KeyNotFound
from services.auth.domain.keys import KeyRing, StoredKey, new_key_pair, open_key
from services.auth.domain.rules import Rules
from services.auth.domain.tokens import Issuer
from services.auth.store import keys as store
from shared.db import Connection
from shared.events.audit import Actor
from shared.sealing import Sealer

_SKEW: Final = timedelta(minutes=1)


async def key_ring(conn: Connection, sealer: Sealer, now: datetime) -> KeyRing:
    """Give all keys, of which one signs; makes the very first one, whoever comes first."""
    ring = KeyRing(await store.list_keys(conn), now)
    if ring.active is not None:
        return ring
    await store.lock_keys(conn)
    ring = KeyRing(await store.list_keys(conn), now)
    if ring.active is not None:
        return ring
    # A little back in time, so that it signs at once for a process whose clock is behind, too.
    await store.insert_key(conn, _new_key(sealer, signs_from=now - _SKEW))
    return KeyRing(await store.list_keys(conn), now)


async def issuer(conn: Connection, sealer: Sealer, rules: Rules, now: datetime) -> Issuer:
    """Give the one who signs tokens now."""
    active = (await key_ring(conn, sealer, now)).active
    if active is None:
        raise LookupError("a ring that was just filled has a key that signs")
    private = sealer.open(active.sealed_private, bound_to=active.bound_to)
    return Issuer(rules.issuer, rules.audience, open_key(active.kid, private))


async def rotate_keys(conn: Connection, sealer: Sealer, rules: Rules, *, actor: Actor, now: datetime) -> StoredKey:
    """Publish a new key now and let it sign after a lead; the others end when nothing they signed can live."""
    await store.lock_keys(conn)
    key = _new_key(sealer, signs_from=now + rules.key_lead)
    await store.insert_key(conn, key)
    await store.save_ends(conn, key.signs_from + 2 * rules.lifetimes.longest, but=key.kid)
    await note(conn, "key.rotated", actor=actor, severity="notice", details={"kid": key.kid})
    return key


async def disable_key(conn: Connection, sealer: Sealer, kid: str, *, actor: Actor, now: datetime) -> None:
    """Stop trusting a key at once, with everything that it signed; a new key signs from now on."""
    await store.lock_keys(conn)
    if not await store.save_end(conn, kid, now):
        raise KeyNotFound
    # Verifiers fetch keys when they meet an unknown one: so they also learn that the disabled one is gone.
    await store.insert_key(conn, _new_key(sealer, signs_from=now))
    await note(conn, "key.disabled", actor=actor, severity="warning", details={"kid": kid})


async def reseal_keys(conn: Connection, sealer: Sealer) -> int:
    """Seal private keys anew that an older secret key sealed; gives how many."""
    old = [key for key in await store.list_keys(conn) if not sealer.is_newest(key.sealed_private)]
    for key in old:
        private = sealer.open(key.sealed_private, bound_to=key.bound_to)
        await store.save_sealed(conn, key.kid, sealer.seal(private, bound_to=key.bound_to))
    return len(old)


def _new_key(sealer: Sealer, *, signs_from: datetime) -> StoredKey:
    kid, public, private = new_key_pair()
    sealed = sealer.seal(private, bound_to=f"signing_keys/{kid}")
    return StoredKey(kid, public, sealed, signs_from, None)
