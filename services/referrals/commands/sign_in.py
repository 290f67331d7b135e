"""Signing in at Microsoft by device code: begun by an admin, polled by whatever process is up."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from services.referrals.commands import connection
from services.referrals.commands.connection import Access
from services.referrals.domain.failures import (
    MicrosoftUnavailable,
    PartnerCenterNotConfigured,
    SignInRefused,
    TokenCacheKeyMismatch,
)
from services.referrals.domain.sign_ins import SignInState, refuse_foreign_tenant
from services.referrals.microsoft import DeviceCode, Pending, SignedIn
from services.referrals.store import sign_ins as store
from services.referrals.store.sign_ins import SignIn
from shared import audit
from shared.events import ReferralsAudit
from shared.events.audit import Actor, Outcome, Target
from shared.identifiers import uuid7
from shared.identity import Principal
from shared.sealing import CannotOpen

log = logging.getLogger(__name__)

_EXPIRED: Final = "The code expired before anybody entered it. Ask for a new code."


@dataclass(frozen=True, slots=True)
class BegunSignIn:
    """What the person who asked, and nobody else, is shown."""

    sign_in_id: UUID
    code: DeviceCode = field(repr=False)


async def begin_sign_in(access: Access, *, asked_by: Principal | Actor) -> BegunSignIn:
    """Ask Microsoft for a code that a person types in; raises SignInRefused with the reason and its cure."""
    async with access.database.connection() as conn:
        await connection.require_fitting_key(conn, access)  # said now, not after the person has signed in
    code = await access.microsoft.begin_sign_in()
    sign_in_id, actor = uuid7(), audit.actor_of(asked_by) if isinstance(asked_by, Principal) else asked_by
    async with access.database.transaction() as conn:
        await store.insert_sign_in(
            conn,
            sign_in_id,
            actor,
            sealed_flow=_seal(access, sign_in_id, code.flow),
            verification_uri=code.verification_uri,
            interval_seconds=code.interval_seconds,
            expires_at=code.expires_at,
        )
        await _record(conn, sign_in_id, actor, "begun")
    log.info("partner_center_sign_in_begun sign_in_id=%s", sign_in_id)
    return BegunSignIn(sign_in_id, code)


async def poll_due_sign_ins(access: Access) -> None:
    """Ask Microsoft once about each sign-in whose interval is over; any number of processes may do this at once."""
    while True:
        async with access.database.transaction() as conn:
            sign_in = await store.take_due_sign_in(conn)
        if sign_in is None:
            return
        await _poll(access, sign_in)


def user_code_of(access: Access, sign_in: SignIn) -> str | None:
    """Give the code of a sign-in that waits, for the person who asked for it."""
    if sign_in.sealed_flow is None:
        return None
    return str(_open(access, sign_in)["user_code"])


async def _poll(access: Access, sign_in: SignIn) -> None:
    if sign_in.expires_at <= datetime.now(UTC):
        await _refuse(access, sign_in, SignInRefused(_EXPIRED, state="expired", error="expired_token"))
        return
    try:
        answer = await access.microsoft.poll_sign_in(_open(access, sign_in))
        if isinstance(answer, SignedIn):
            await _succeed(access, sign_in, answer)
        else:
            await _postpone(access, sign_in, answer)
    except MicrosoftUnavailable as error:  # asked again when the claim on it runs out
        log.warning("partner_center_sign_in_waits sign_in_id=%s reason=%s", sign_in.sign_in_id, error.message)
    except SignInRefused as error:
        await _refuse(access, sign_in, error)
    except (TokenCacheKeyMismatch, PartnerCenterNotConfigured) as error:
        await _refuse(access, sign_in, SignInRefused(error.message, error=error.code.lower()))


async def _succeed(access: Access, sign_in: SignIn, signed_in: SignedIn) -> None:
    account = signed_in.account
    refuse_foreign_tenant(account, access.tenant_id)
    async with access.database.transaction() as conn:
        if not await store.finish_sign_in(conn, sign_in.sign_in_id, SignInState.SUCCEEDED, account=account.username):
            return
        await connection.connect(conn, access, account, signed_in.token_cache, signed_in.token_expires_at)
        await _record(
            conn,
            sign_in.sign_in_id,
            sign_in.asked_by,
            "succeeded",
            personal={"email": account.username},
            details={"tenant_id": account.tenant_id},
        )
    log.info("partner_center_sign_in_succeeded sign_in_id=%s tenant_id=%s", sign_in.sign_in_id, account.tenant_id)


async def _postpone(access: Access, sign_in: SignIn, pending: Pending) -> None:
    async with access.database.transaction() as conn:
        await store.postpone_sign_in(
            conn,
            sign_in.sign_in_id,
            sealed_flow=_seal(access, sign_in.sign_in_id, pending.flow),
            interval_seconds=pending.interval_seconds,
        )


async def _refuse(access: Access, sign_in: SignIn, error: SignInRefused) -> None:
    async with access.database.transaction() as conn:
        is_ended = await store.finish_sign_in(
            conn, sign_in.sign_in_id, SignInState(error.state), error_code=error.error, error=error.message
        )
        if is_ended:
            outcome: Outcome = "denied" if error.error == "wrong_tenant" else "failure"
            # The code, not the words: these may name the account, and a reason is not sealed as personal data is.
            await _record(conn, sign_in.sign_in_id, sign_in.asked_by, error.state, outcome=outcome, reason=error.error)
    log.warning("partner_center_sign_in_%s sign_in_id=%s error=%s", error.state, sign_in.sign_in_id, error.error)


async def _record(
    conn: Any, sign_in_id: UUID, actor: Actor, what: str, *, outcome: Outcome = "success", **more: Any
) -> None:
    await audit.record(
        conn,
        ReferralsAudit,
        action=f"partner_center.sign_in.{what}",
        actor=actor,
        outcome=outcome,
        target=Target(kind="sign_in", id=str(sign_in_id)),
        severity="notice",
        **more,
    )


def _seal(access: Access, sign_in_id: UUID, flow: dict[str, Any]) -> bytes:
    return access.sealer.seal(orjson.dumps(flow), bound_to=f"sign_ins/{sign_in_id}")


def _open(access: Access, sign_in: SignIn) -> dict[str, Any]:
    try:
        flow: dict[str, Any] = orjson.loads(
            access.sealer.open(sign_in.sealed_flow or b"", bound_to=f"sign_ins/{sign_in.sign_in_id}")
        )
    except CannotOpen as error:
        raise TokenCacheKeyMismatch from error
    return flow
