"""HTTP in → command or query → HTTP out."""

from fastapi import APIRouter

from services.invitations.routes import bulk, callbacks, codes, farmer, invitations, jobs, sponsors

# Fixed paths before `/{id}`, so that `bulk` and `template` are no invitation's id.
ROUTERS: list[APIRouter] = [
    bulk.router,
    jobs.router,
    codes.router,
    sponsors.router,
    invitations.router,
    farmer.router,
    callbacks.router,
]
