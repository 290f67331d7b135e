"""The stored sign-in: tokens from it, its health, reset, another key, import.

Every change goes: lock the row, open, ask MSAL in a thread, seal if changed, commit. This is the one place where a
transaction stays open across HTTP, and on purpose: without the lock, two replicas that renew at once lose a one-time
refresh token, and a reset that races a renewal is undone by it (facts 2.6, measured). The client's time limits keep it
below what Postgres allows a transaction to idle.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from services.referrals.domain.failures import (
    MicrosoftUnavailable,
    PartnerCenterNotConfigured,
    SignInRefused,
    SignInRequired,
    TokenCacheInvalid,
    TokenCacheKeyMismatch,
)
from services.referrals.domain.sign_ins import Account, Condition, StoredSignIn, refuse_foreign_tenant
from services.referrals.microsoft import Microsoft, Token
from services.referrals.store import connections as store
from shared import audit, outbox
from shared.db import Connection, Database
from shared.events import PartnerCenterSignInRequired, ReferralsAudit
from shared.events.audit import Actor, Target
from shared.identity import Principal
from shared.sealing import CannotOpen, Sealer

log = logging.getLogger(__name__)

SERVICE: Final = Actor(kind="service")
TARGET: Final = Target(kind="partner_center_connection", id="1")
# An idle token is renewed long before Entra's 90 days are over.
KEEP_ALIVE_AFTER: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to get at Partner Center in somebody's name."""

    database: Database
    microsoft: Microsoft
    sealer: Sealer
    tenant_id: str | None


@dataclass(frozen=True, slots=True)
class Credential:
    """A token, whose it is, and from which sign-in."""

    token: Token
    account: Account
    connected_at: datetime


async def get_credential(access: Access, *, refused: Token | None = None) -> Credential:
    """Give a token that Microsoft takes, other than the one it just refused; raises SignInRequired."""
    async with access.database.connection() as conn:
        stored = await store.find_connection(conn)
    if stored and stored.refused_because is None:
        token = access.microsoft.comfortable_token(usable_cache(access, stored))
        if token is not None and not _is_refused(token, refused):
            return Credential(token, stored.account, stored.connected_at)
    return await _renew(access, refused)


async def require_sign_in(access: Access, credential: Credential, reason: str) -> bool:
    """Note that only a person can make a sign-in work again, and tell everybody once; False when one already has."""
    async with access.database.transaction() as conn:
        stored = await store.lock_connection(conn)
        if stored is not None and stored.connected_at != credential.connected_at:
            return False
        if stored is not None:
            await _require_sign_in(conn, stored, reason)
        return True


async def keep_connection_alive(access: Access) -> None:
    """Renew an idle sign-in once a week, and tell when it is about to expire."""
    async with access.database.connection() as conn:
        stored = await store.find_connection(conn)
    if stored is None or stored.refused_because is not None:
        return
    now = datetime.now(UTC)
    if now - stored.refreshed_at >= KEEP_ALIVE_AFTER:
        try:
            await _renew(access, access.microsoft.comfortable_token(usable_cache(access, stored)), force=True)
        except SignInRequired:
            return  # told by the renewal, or by each sync
        except (MicrosoftUnavailable, PartnerCenterNotConfigured) as error:
            log.warning("partner_center_renewal_waits reason=%s", error.message)
    await _report_condition(access, now)


async def reset_connection(conn: Connection, *, asked_by: Principal | Actor) -> bool:
    """Forget the stored sign-in (what operators did with `rm .token_cache`); False when there was none."""
    is_deleted = await store.delete_connection(conn)
    await audit.record(
        conn,
        ReferralsAudit,
        action="partner_center.connection.reset",
        actor=asked_by,
        target=TARGET,
        severity="notice",
        details={"existed": is_deleted},
    )
    return is_deleted


async def rotate_key(access: Access, *, asked_by: Principal | Actor) -> bool:
    """Seal the stored sign-in with the newest key; False when there is none or it is done already."""
    async with access.database.transaction() as conn:
        stored = await store.lock_connection(conn)
        if stored is None or access.sealer.is_newest(stored.sealed_cache):
            return False
        await store.save_sealed_cache(conn, _seal(access, open_cache(access, stored)))
        await audit.record(
            conn, ReferralsAudit, action="partner_center.key.rotated", actor=asked_by, target=TARGET, severity="notice"
        )
    return True


async def import_cache(access: Access, token_cache: str, *, asked_by: Principal | Actor) -> Account:
    """Take over the plain `.token_cache` file of the older tool; proves by a renewal that it works."""
    account = access.microsoft.account_of(token_cache)
    refuse_foreign_tenant(account, access.tenant_id)
    async with access.database.connection() as conn:
        await require_fitting_key(conn, access)
    token = await access.microsoft.renew(token_cache, force=True)
    async with access.database.transaction() as conn:
        await connect(conn, access, account, token.renewed_cache or token_cache, token.expires_at)
        await audit.record(
            conn,
            ReferralsAudit,
            action="partner_center.cache.imported",
            actor=asked_by,
            target=TARGET,
            severity="notice",
            personal={"email": account.username},
            details={"tenant_id": account.tenant_id},
        )
    return account


async def connect(
    conn: Connection, access: Access, account: Account, token_cache: str, token_expires_at: datetime
) -> None:
    """Store a sign-in that somebody has just finished, in place of one that our keys open."""
    await require_fitting_key(conn, access)
    sealed = _seal(access, token_cache)
    await store.insert_connection(conn, account, sealed_cache=sealed, token_expires_at=token_expires_at)


async def require_fitting_key(conn: Connection, access: Access) -> None:
    """Raise TokenCacheKeyMismatch if a sign-in is stored that our keys do not open: only a reset throws it away."""
    if stored := await store.find_connection(conn):
        open_cache(access, stored)


def usable_cache(access: Access, stored: StoredSignIn) -> str:
    """Open the token cache if it is of our tenant still; raises SignInRequired after the setting has changed.

    Nothing is written down: who corrects a slip in the setting need not sign in anew.
    """
    try:
        if access.tenant_id is not None:
            refuse_foreign_tenant(stored.account, access.tenant_id)
    except SignInRefused as error:
        raise SignInRequired(error.message) from error
    return open_cache(access, stored)


def open_cache(access: Access, stored: StoredSignIn) -> str:
    """Open the token cache; a key that does not fit is an error that says so, never an empty start."""
    try:
        return access.sealer.open(stored.sealed_cache, bound_to=store.BINDING).decode()
    except CannotOpen as error:
        raise TokenCacheKeyMismatch from error
    except UnicodeDecodeError as error:
        raise TokenCacheInvalid("The stored sign-in is no text.") from error


async def _renew(access: Access, refused: Token | None, *, force: bool = False) -> Credential:
    async with access.database.transaction() as conn:
        stored = await store.lock_connection(conn)
        if stored is None:
            raise SignInRequired
        if stored.refused_because is not None:
            raise SignInRequired(stored.refused_because)
        cache = usable_cache(access, stored)
        token = access.microsoft.comfortable_token(cache)
        if token is not None and not _is_refused(token, refused):
            # Another replica has renewed it while we waited for the lock.
            return Credential(token, stored.account, stored.connected_at)
        try:
            token = await access.microsoft.renew(cache, force=force or refused is not None)
        except SignInRequired as error:
            await _require_sign_in(conn, stored, error.message)
            failure = error
        else:
            if token.renewed_cache is not None:
                await store.save_renewal(conn, _seal(access, token.renewed_cache), token.expires_at)
                await audit.record(
                    conn, ReferralsAudit, action="partner_center.token.renewed", actor=SERVICE, target=TARGET
                )
                log.info("partner_center_token_renewed version=%d", stored.version + 1)
            return Credential(token, stored.account, stored.connected_at)
    raise failure  # after the commit, so that what was noted stays


async def _report_condition(access: Access, now: datetime) -> None:
    async with access.database.transaction() as conn:
        stored = await store.lock_connection(conn)
        if stored is None or stored.condition(now) is stored.reported:
            return
        condition = stored.condition(now)
        await store.save_condition(conn, condition, refused_because=stored.refused_because)
        if complaint := stored.complaint(now):
            log.warning("partner_center_connection_%s expires_at=%s", condition, stored.expires_at.isoformat())
            status: Literal["expiring", "sign_in_required"] = (
                "expiring" if condition is Condition.EXPIRING else "sign_in_required"
            )
            await outbox.add(conn, PartnerCenterSignInRequired(status=status, reason=complaint))


async def _require_sign_in(conn: Connection, stored: StoredSignIn, reason: str) -> None:
    if stored.refused_because is not None:
        return
    await store.save_condition(conn, Condition.SIGN_IN_REQUIRED, refused_because=reason)
    log.error("partner_center_sign_in_required reason=%s", reason)
    await outbox.add(conn, PartnerCenterSignInRequired(reason=reason))
    await audit.record(
        conn,
        ReferralsAudit,
        action="partner_center.token.refused",
        actor=SERVICE,
        outcome="failure",
        target=TARGET,
        reason=reason,
        severity="warning",
    )


def _is_refused(token: Token, refused: Token | None) -> bool:
    return refused is not None and token.access_token == refused.access_token


def _seal(access: Access, token_cache: str) -> bytes:
    return access.sealer.seal(token_cache.encode(), bound_to=store.BINDING)
