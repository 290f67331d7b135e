"""`/_sandbox/...`: how tests and the demo look into the sandbox and change it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.microsoft.knobs import Knobs
from sandbox.microsoft.state import Sandbox

router = APIRouter(prefix="/_sandbox")


class ReferralChanges(BaseModel):
    """What is to become of the referrals."""

    model_config = ConfigDict(extra="forbid")

    add: list[dict[str, Any]] = []
    change: dict[str, dict[str, Any]] = {}
    remove: list[str] = []


class Reset(BaseModel):
    """Back to the start."""

    model_config = ConfigDict(extra="forbid")

    referrals: int | None = Field(default=None, ge=0, le=100_000)


def _sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


@router.get("/state")
async def state(request: Request) -> dict[str, Any]:
    """Counters, knobs, and the user codes that wait for a person."""
    sandbox = _sandbox(request)
    waiting = [device.user_code for device in sandbox.identity.devices.values() if device.state == "pending"]
    return {
        **sandbox.counters.report(),
        "knobs": sandbox.knobs.model_dump(),
        "waiting_user_codes": waiting,
        "referrals": len(sandbox.collection),
    }


@router.post("/knobs")
async def turn_knobs(changes: dict[str, Any], request: Request) -> Knobs:
    """Set some knobs; an unknown one is refused, and then none is set."""
    try:
        return _sandbox(request).turn(changes)
    except ValidationError as error:
        raise HTTPException(422, error.errors(include_url=False, include_context=False)) from error


@router.post("/referrals")
async def change_referrals(changes: ReferralChanges, request: Request) -> dict[str, list[str]]:
    """Add, change or remove referrals while clients page through them."""
    collection = _sandbox(request).collection
    return {
        "added": [collection.add(item)["id"] for item in changes.add],
        "changed": [id_ for id_, values in changes.change.items() if collection.change(id_, values)],
        "removed": [id_ for id_ in changes.remove if collection.remove(id_)],
    }


@router.post("/revoke")
async def revoke(request: Request) -> dict[str, bool]:
    """End every session: no access token and no refresh token is taken any more."""
    _sandbox(request).identity.revoke_everything()
    return {"revoked": True}


@router.post("/reset")
async def reset(wanted: Reset, request: Request) -> dict[str, bool]:
    """Forget everything: knobs, sign-ins, changes and counters."""
    _sandbox(request).reset(wanted.referrals)
    return {"reset": True}
