"""The account that every fault must leave balanced: what was decided has happened once, and nothing is left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from shared import outbox, topology
from shared.bus.handling import Handlers
from shared.db import Connection, Database
from shared.errors import Unavailable
from shared.events import UserChanged, UserRegistered
from shared.worker import Work
from tests.support.builders import a_user_registered
from tests.support.databases import FreshDatabase
from tests.support.messages import depth

QUEUE = topology.INVITATIONS_EVENTS
_BATCH = 25


async def take_effect(_: Any, conn: Connection, event: UserRegistered) -> None:
    """Note that an event was handled, in the transaction of its inbox row."""
    await conn.execute("INSERT INTO effects (number) VALUES ($1)", event.user_id)


HANDLERS: Handlers = {UserRegistered: take_effect, UserChanged: take_effect}


@dataclass
class Ledger:
    """Intents and effects in one database."""

    fresh: FreshDatabase
    decided: int = 0

    @classmethod
    async def open(cls, fresh: FreshDatabase) -> Ledger:
        """Make the tables; an effect has no unique key, so that a second one would show."""
        owner = await asyncpg.connect(fresh.owner_url)
        await owner.execute(
            "SET search_path = invitations; CREATE TABLE intents (number bigint); CREATE TABLE effects (number bigint)"
        )
        await owner.close()
        return cls(fresh)

    @property
    def database(self) -> Database:
        """The database under test."""
        return self.fresh.database

    @property
    def work(self) -> list[Work]:
        """The consumer that makes the effects."""
        return [Work(QUEUE, HANDLERS)]

    async def decide(self, count: int) -> None:
        """Decide events in the way of an API: intent and event in one transaction, or an error and neither."""
        numbers = range(self.decided, self.decided + count)
        async with self.database.transaction() as conn:
            await conn.executemany("INSERT INTO intents VALUES ($1)", [(number,) for number in numbers])
            await outbox.add_many(conn, [a_user_registered(number) for number in numbers])
        self.decided += count

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """Decide events all the time until the block ends."""
        over = asyncio.Event()

        async def flow() -> None:
            while not over.is_set():
                try:
                    await self.decide(_BATCH)
                except (Unavailable, asyncpg.PostgresError, OSError):
                    # What an API answers with 503; whether the commit arrived is what the tables say afterwards.
                    self.decided += _BATCH
                await asyncio.sleep(0.02)

        task = asyncio.create_task(flow())
        try:
            yield
        finally:
            over.set()
            await task

    async def balanced(self) -> bool:
        """Say whether every intent has had its effect."""
        try:
            intents, effects, waiting = await self.counts()
        except Unavailable:
            return False
        return effects >= intents > 0 == waiting

    async def counts(self) -> tuple[int, int, int]:
        """Count intents, effects, and events that wait to be published."""
        async with self.database.connection() as conn:
            row = await conn.fetchrow(
                """SELECT (SELECT count(*) FROM intents), (SELECT count(*) FROM effects),
                          (SELECT count(*) FROM outbox)"""
            )
        assert row is not None
        return row[0], row[1], row[2]

    async def check(self, amqp_url: str) -> int:
        """Compare one by one: each intent one effect, no other effect, nothing left; gives how many."""
        async with self.database.connection() as conn:
            intents = [row[0] for row in await conn.fetch("SELECT number FROM intents ORDER BY number")]
            effects = [row[0] for row in await conn.fetch("SELECT number FROM effects ORDER BY number")]
        assert effects == intents
        assert len(intents) > 0
        assert await depth(amqp_url, "invitations.dead") == 0
        return len(intents)
