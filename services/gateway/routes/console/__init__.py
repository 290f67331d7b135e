"""The pages for people: each calls the interface as any client does, in the name of whoever is signed in."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from services.gateway.routes.console import (
    account,
    audit,
    codes,
    files,
    home,
    invitations,
    jobs,
    on_behalf,
    partner_center,
    queues,
    referrals,
    signing_in,
    users,
)

ROUTERS: Final[list[APIRouter]] = [
    files.router,
    signing_in.router,
    home.router,
    account.router,
    codes.router,
    users.router,
    audit.router,
    queues.router,
    referrals.router,
    partner_center.router,
    # Fixed paths before `/{id}`, so that `upload` is no invitation's id.
    jobs.router,
    on_behalf.router,
    invitations.router,
]
