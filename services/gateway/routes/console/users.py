"""People: who there is, what they may do, whether they may sign in."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import Response

from services.gateway.routes.console.door import Admin, explain, make_router
from services.gateway.routes.console.forms import number_or_text
from services.gateway.routes.console.refusals import ApiRefused
from services.gateway.routes.console.visitor import Visitor

router = make_router()

_USERS: Final = "/api/v1/auth/users"
ROLES: Final = ("Admin", "Sponsor", "Player", "Auditor")


@router.get("/users")
async def list_users(visitor: Admin, search: str = "", role: str = "", state: str = "", cursor: str = "") -> Response:
    """List users."""
    active = {"active": "true", "disabled": "false"}.get(state)
    page = await visitor.get(
        _USERS, search=search, role=role if role in ROLES else "", is_active=active, cursor=cursor, limit=25
    )
    filters = {"search": search, "role": role, "state": state}
    return visitor.page(
        "users.html", page=page, filters=filters, filtered=any(filters.values()), cursor=cursor, roles=ROLES
    )


@router.get("/users/new")
async def show_new_user(visitor: Admin) -> Response:
    """Ask for a new person."""
    return visitor.page("user_new.html", roles=ROLES, chosen=[], email="", full_name="", problem=None)


@router.post("/users/new")
async def create_user(visitor: Admin) -> Response:
    """Make an account; its owner gets a letter to set the first password."""
    form = visitor.form
    body = {"email": form.get("email"), "full_name": form.get("full_name"), "roles": form.all("roles")}
    try:
        made = await visitor.send("POST", _USERS, body)
    except ApiRefused as refused:
        return visitor.page(
            "user_new.html",
            status=refused.status,
            roles=ROLES,
            chosen=body["roles"],
            email=body["email"],
            full_name=body["full_name"],
            problem=explain(visitor, refused),
        )
    return visitor.go(f"/users/{made['id']}", done="user_created")


@router.get("/users/{user_id}")
async def show_user(visitor: Admin, user_id: int) -> Response:
    """Show one person."""
    return await _user(visitor, user_id)


@router.post("/users/{user_id}")
async def change_user(visitor: Admin, user_id: int) -> Response:
    """Change name and roles."""
    body = {"full_name": visitor.form.get("full_name"), "roles": visitor.form.all("roles")}
    return await _change(visitor, user_id, "PATCH", "", body, done="saved")


@router.post("/users/{user_id}/grants")
async def change_grants(visitor: Admin, user_id: int) -> Response:
    """Say for which sponsors an admin may act."""
    form = visitor.form
    if form.get("kind") == "all":
        ids: Any = "all"
    else:
        words = form.get("sponsor_ids").replace(",", " ").split() if form.get("kind") == "some" else []
        ids = [number_or_text(word) for word in words]
    return await _change(visitor, user_id, "PUT", "/on-behalf-of", {"sponsor_ids": ids}, done="saved")


@router.post("/users/{user_id}/{act}")
async def settle_user(
    visitor: Admin, user_id: int, act: Literal["activate", "disable", "end-sessions", "confirm-admin"]
) -> Response:
    """Activate, disable, end sessions, or let a break-glass admin's role last."""
    done = f"user_{act.replace('-', '_')}"
    if act in {"activate", "disable"}:
        return await _change(visitor, user_id, "PATCH", "", {"is_active": act == "activate"}, done=done)
    return await _change(visitor, user_id, "POST", f"/{act}", None, done=done)


async def _change(visitor: Visitor, user_id: int, method: str, below: str, body: Any, *, done: str) -> Response:
    try:
        await visitor.send(method, f"{_USERS}/{user_id}{below}", body)
    except ApiRefused as refused:
        return await _user(visitor, user_id, refused)
    return visitor.go(f"/users/{user_id}", done=done)


async def _user(visitor: Visitor, user_id: int, refused: ApiRefused | None = None) -> Response:
    user = await visitor.get(f"{_USERS}/{user_id}")
    return visitor.page(
        "user.html",
        status=refused.status if refused else 200,
        user=user,
        roles=ROLES,
        problem=explain(visitor, refused) if refused else None,
    )
