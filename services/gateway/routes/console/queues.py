"""The queues of all services, and the messages that nobody could handle."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Literal

from fastapi import Response

from services.gateway.domain.console.places import id_in_path
from services.gateway.routes.console.door import Admin, explain, make_router
from services.gateway.routes.console.refusals import ApiRefused
from services.gateway.routes.console.visitor import Visitor

router = make_router()

# Each service tells of its own queues: it alone may read them at the broker.
DESKS: Final = {
    "auth": "/api/v1/auth/queues",
    "referrals": "/api/referrals/queues",
    "invitations": "/api/Sponsorship/admin/queues",
    "audit": "/api/v1/audit/queues",
}
Service = Literal["auth", "referrals", "invitations", "audit"]


@dataclass(frozen=True, slots=True)
class ServiceQueues:
    """One service's queues, or why they can't be shown."""

    service: str
    queues: list[dict[str, Any]]
    problem: str | None = None

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Give the queues of one kind."""
        return [queue for queue in self.queues if queue["kind"] == kind]

    @property
    def dead(self) -> int:
        """How many messages nobody could handle."""
        return sum(queue["messages"] or 0 for queue in self.of("dead"))

    @property
    def waiting(self) -> int:
        """How many messages wait to be handled."""
        return sum(queue["messages"] or 0 for queue in self.of("work"))

    @property
    def retrying(self) -> int:
        """How many messages wait on a rung."""
        return sum(queue["messages"] or 0 for queue in self.of("retry"))

    @property
    def is_consumed(self) -> bool:
        """Whether somebody takes messages out of each work queue."""
        return all(queue["consumers"] for queue in self.of("work"))


async def look(visitor: Visitor) -> list[ServiceQueues]:
    """Ask every service for its queues, all at once; one that is away does not hide the others."""
    return list(await asyncio.gather(*(_look(visitor, service) for service in DESKS)))


async def _look(visitor: Visitor, service: str) -> ServiceQueues:
    try:
        return ServiceQueues(service, (await visitor.get(DESKS[service]))["items"])
    except ApiRefused as refused:
        return ServiceQueues(service, [], explain(visitor, refused))


@router.get("/queues")
async def show_queues(visitor: Admin) -> Response:
    """Show depth, consumers, rungs and dead letters of every service."""
    return visitor.page("queues.html", services=await look(visitor))


@router.get("/queues/all")
async def refresh_queues(visitor: Admin) -> Response:
    """Show them again, as a part of the page."""
    return visitor.page("fragments/queues.html", services=await look(visitor))


@router.get("/queues/{service}")
async def show_dead_letters(visitor: Admin, service: Service) -> Response:
    """Show the oldest dead letters of a service, with the reason of each."""
    letters = await visitor.get(f"{DESKS[service]}/dead-letters", limit=100)
    return visitor.page("dead_letters.html", service=service, letters=letters["items"], waiting=letters["waiting"])


@router.get("/queues/{service}/letters/{letter_id}")
async def show_dead_letter(visitor: Admin, service: Service, letter_id: str) -> Response:
    """Show one dead letter whole."""
    letter = await visitor.get(f"{DESKS[service]}/dead-letters/{id_in_path(letter_id)}")
    return visitor.page("dead_letter.html", service=service, letter=letter)


@router.post("/queues/{service}/{act}")
async def settle_dead_letters(visitor: Admin, service: Service, act: Literal["redrive", "drop"]) -> Response:
    """Bring one or all dead letters back, or throw them away."""
    letter = visitor.form.get("id")
    choice = {"id": letter} if letter else {"all": True}
    answer = await visitor.send("POST", f"{DESKS[service]}/dead-letters/{act}", choice)
    return visitor.go(f"/queues/{service}", done=f"letters_{act}", n=answer["count"])
