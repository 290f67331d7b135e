"""Proof that nobody touched the log: verifications and checkpoints."""

from __future__ import annotations

from fastapi import APIRouter

from services.audit import commands, store
from services.audit.routes.access import CurrentContext, Reader
from services.audit.schemas import CheckpointShown, VerificationQueued, VerificationShown

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


@router.get("/verification")
async def get_verification(_: Reader, context: CurrentContext) -> VerificationShown:
    """Show the last result, and what is queued or running."""
    async with context.database.connection() as conn:
        last = await commands.find_result(conn, context.verifier_keys)
        pending = await commands.find_pending(conn)
    result = {**last["report"], **dict(last)} if last else {}
    return VerificationShown.model_validate({**result, "pending": dict(pending) if pending else None}, extra="ignore")


@router.post("/verification", status_code=202)
async def request_verification(reader: Reader, context: CurrentContext) -> VerificationQueued:
    """Queue a verification of the whole log; the worker runs it, GET shows the result."""
    async with context.database.transaction() as conn:
        return VerificationQueued(id=await commands.request_verification(conn, reader))


@router.get("/checkpoints/latest")
async def get_latest_checkpoint(_: Reader, context: CurrentContext) -> CheckpointShown:
    """Give the newest signed checkpoint: keep a copy, and nobody can rewrite the log behind your back."""
    async with context.database.connection() as conn:
        row = await store.get_last_checkpoint(conn)
    return CheckpointShown(**dict(row), verifier_key=context.signing_key.verifier.text())
