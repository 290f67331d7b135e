"""An operator's desk for the queues of one service, over HTTP: look, bring dead letters back, throw them away.

Each service serves its own, because each reads its own queues with its own user of the broker and no others (see
docs/decisions/0010). What `python -m services.<name> dead` does at a terminal, this does for a signed-in admin, and
leaves evidence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from shared import audit
from shared.bus.dead_letters import DeadLetter, DeadLetters
from shared.bus.publisher import Interrupted, Refused
from shared.bus.queues import QueueState, look_at_queues
from shared.db import Database
from shared.errors import NotFound, Unavailable
from shared.events.audit import AuditRecorded, Target
from shared.identity import Principal
from shared.topology import dead_letters_of
from shared.web import require_role

REDRIVE: Final = "dead_letters.redrive_requested"
DROP: Final = "dead_letters.drop_requested"
ACTS: Final = (REDRIVE, DROP)


class DeadLetterUnknown(NotFound):
    """There is no such dead letter, or not any more."""

    code, message = "DEAD_LETTER_NOT_FOUND", "There is no such dead letter."


class NotConfirmed(Unavailable):
    """The broker did not confirm the copy, so the letter stays where it is."""

    code, message = "REDRIVE_NOT_CONFIRMED", "The broker did not confirm it, so the letter stays where it is."


class QueueShown(BaseModel):
    """One queue; `messages` and `consumers` are null where the broker has no such queue."""

    name: str
    kind: Literal["work", "retry", "dead"]
    messages: int | None
    consumers: int | None


class QueuesShown(BaseModel):
    """The queues of a service."""

    service: str
    items: list[QueueShown]
    next_cursor: None = None


class DeadLetterShown(BaseModel):
    """A message that nobody could handle."""

    id: str
    event_type: str
    queue: str
    reason: str
    attempts: int
    first_failed_at: str


class DeadLetterWhole(DeadLetterShown):
    """A message that nobody could handle, with the trace of its failure and the event."""

    trace: str
    body: str


class DeadLettersShown(BaseModel):
    """The oldest dead letters; `waiting` counts all."""

    items: list[DeadLetterShown]
    waiting: int
    next_cursor: None = None


class Choice(BaseModel):
    """One letter by its id, or all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"all": True}]})

    id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    all: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.id is None) != self.all:
            raise ValueError('name one dead letter by "id", or say "all": true')
        return self


class Settled(BaseModel):
    """How many letters that was."""

    success: Literal[True] = True
    count: int


def queue_router(
    prefix: str, service: str, evidence: type[AuditRecorded], amqp_url: SecretStr, *, admin: Any = None
) -> APIRouter:
    """Make the routes of one service; `admin` is the dependency that lets only admins in."""
    router = APIRouter(prefix=prefix, tags=["queues"])
    desk = _Desk(service, evidence, amqp_url.get_secret_value())
    let_in = admin or require_role("Admin")

    @router.get("", dependencies=[let_in])
    async def list_queues() -> QueuesShown:
        """Tell what waits in each queue of this service, and how many consume it."""
        found = await look_at_queues(desk.url, service)
        return QueuesShown(service=service, items=[QueueShown(**asdict(state)) for state in found])

    @router.get("/dead-letters", dependencies=[let_in])
    async def list_dead_letters(limit: Annotated[int, Query(ge=1, le=200)] = 50) -> DeadLettersShown:
        """List the oldest messages that nobody could handle, with the reason."""
        return await desk.list(limit)

    @router.get("/dead-letters/{letter_id}", dependencies=[let_in])
    async def get_dead_letter(letter_id: str) -> DeadLetterWhole:
        """Show one dead letter whole."""
        return DeadLetterWhole(**(await desk.get(letter_id)).as_dict())

    @router.post("/dead-letters/redrive")
    async def redrive_dead_letters(choice: Choice, request: Request, caller: Principal = let_in) -> Settled:
        """Bring one dead letter, or all, back into the queue that they came from."""
        return await desk.settle(choice, caller, request.state.context.database, REDRIVE)

    @router.post("/dead-letters/drop")
    async def drop_dead_letters(choice: Choice, request: Request, caller: Principal = let_in) -> Settled:
        """Throw one dead letter, or all, away for good."""
        return await desk.settle(choice, caller, request.state.context.database, DROP)

    return router


class _Desk:
    """One service's dead letters."""

    def __init__(self, service: str, evidence: type[AuditRecorded], url: str) -> None:
        self.url = url
        self._service = service
        self._evidence = evidence

    async def list(self, limit: int) -> DeadLettersShown:
        async with DeadLetters(self.url, self._service) as letters:
            found = await letters.peek(limit)
        waiting = await self._waiting()
        items = [DeadLetterShown.model_validate(letter.as_dict(), extra="ignore") for letter in found]
        return DeadLettersShown(items=items, waiting=max(waiting, len(items)))

    async def get(self, letter_id: str) -> DeadLetter:
        async with DeadLetters(self.url, self._service) as letters:
            letter = await letters.find(letter_id)
        if letter is None:
            raise DeadLetterUnknown
        return letter

    async def settle(self, choice: Choice, caller: Principal, database: Database, act: str) -> Settled:
        """Write down who wants it, then do it: a crash in between leaves evidence without a deed, never the reverse."""
        details: dict[str, Any] = {"letter": choice.id or "all", "waiting": await self._waiting()}
        if choice.id is not None:
            letter = await self.get(choice.id)
            details |= {"event_type": letter.event_type, "queue": letter.queue}
        async with database.transaction() as conn:
            await audit.record(
                conn,
                self._evidence,
                action=f"{self._service}.{act}",
                actor=caller,
                target=Target(kind="queue", id=dead_letters_of(self._service)),
                severity="warning" if act == DROP else "notice",
                details=details,
            )
        try:
            async with DeadLetters(self.url, self._service) as letters:
                work: Callable[[str | None], Awaitable[int]] = letters.redrive if act == REDRIVE else letters.drop
                return Settled(count=await work(choice.id))
        except (Refused, Interrupted) as error:
            raise NotConfirmed(f"{NotConfirmed.message} ({error})") from error

    async def _waiting(self) -> int:
        states = await look_at_queues(self.url, self._service)
        return next((_count(state) for state in states if state.kind == "dead"), 0)


def _count(state: QueueState) -> int:
    return state.messages or 0
