"""The own second factor."""

from __future__ import annotations

from services.auth.commands import second_factor as commands
from services.auth.domain.second_factor import provisioning_uri
from services.auth.routes.door import ContextHere, SignedIn, given, make_router
from services.auth.routes.proof import prove
from services.auth.schemas import Confirmation, Done, Enrolment, FullProof, Proof, RecoveryCodes

router = make_router("second factor")


@router.post("/second-factor")
async def enrol_second_factor(body: Proof, caller: SignedIn, context: ContextHere) -> Enrolment:
    """Begin with an authenticator app; it counts once its first code is confirmed."""
    await prove(context, caller, body.password.get_secret_value())
    async with context.database.transaction() as conn:
        seed, email = await commands.enrol_second_factor(conn, context.sealer, caller)
    return Enrolment(secret=seed, provisioning_uri=provisioning_uri(seed, email))


@router.post("/second-factor/confirm")
async def confirm_second_factor(body: Confirmation, caller: SignedIn, context: ContextHere) -> RecoveryCodes:
    """Confirm the app with its first code; gives the recovery codes, once."""
    async with context.database.transaction() as conn:
        result = await commands.confirm_second_factor(
            conn, context.sealer, context.rules, caller, body.code, now=context.clock()
        )
    return RecoveryCodes(recovery_codes=given(result))


@router.post("/second-factor/recovery-codes")
async def renew_recovery_codes(body: FullProof, caller: SignedIn, context: ContextHere) -> RecoveryCodes:
    """Replace the recovery codes."""
    await _prove_both(body, caller, context)
    async with context.database.transaction() as conn:
        return RecoveryCodes(recovery_codes=await commands.renew_recovery_codes(conn, caller))


@router.post("/second-factor/remove")
async def remove_second_factor(body: FullProof, caller: SignedIn, context: ContextHere) -> Done:
    """Remove the second factor."""
    await _prove_both(body, caller, context)
    async with context.database.transaction() as conn:
        await commands.remove_second_factor(conn, caller, now=context.clock())
    return Done(message="The second factor is removed.")


async def _prove_both(body: FullProof, caller: SignedIn, context: ContextHere) -> None:
    await prove(context, caller, body.password.get_secret_value())
    async with context.database.transaction() as conn:
        result = await commands.judge_code(conn, context.sealer, context.rules, caller, body.code, now=context.clock())
    given(result)
