"""Each event has its effect once for each consumer, however often and by whomever it is delivered."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from shared import inbox
from shared.db import Database
from shared.identifiers import uuid7
from tests.support.databases import Databases


@pytest.fixture
async def database(databases: Databases) -> Database:
    return (await databases.make("auth")).database


async def claim(database: Database, *event_ids: UUID, consumer: str = "auth.events") -> set[UUID]:
    async with database.transaction() as conn:
        return await inbox.claim(conn, consumer, event_ids)


async def test_an_event_is_claimed_once(database: Database) -> None:
    event = uuid7()

    assert await claim(database, event) == {event}
    assert await claim(database, event) == set()


async def test_an_event_that_is_delivered_twice_at_once_is_claimed_once(database: Database) -> None:
    event = uuid7()

    assert await claim(database, event, event) == {event}


async def test_each_consumer_claims_for_itself(database: Database) -> None:
    event = uuid7()

    assert await claim(database, event, consumer="auth.events") == {event}
    assert await claim(database, event, consumer="auth.other") == {event}


async def test_only_what_is_new_is_claimed(database: Database) -> None:
    old, new = uuid7(), uuid7()
    await claim(database, old)

    assert await claim(database, old, new) == {new}


async def test_a_claim_whose_effect_failed_is_no_claim(database: Database) -> None:
    event = uuid7()

    async def fail() -> None:
        async with database.transaction() as conn:
            await inbox.claim(conn, "auth.events", [event])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await claim(database, event) == {event}


async def test_a_second_worker_waits_for_the_first_and_then_does_nothing(database: Database) -> None:
    event = uuid7()
    async with database.transaction() as conn:
        await inbox.claim(conn, "auth.events", [event])
        second = asyncio.create_task(claim(database, event))
        done, _ = await asyncio.wait({second}, timeout=0.3)
        assert not done

    assert await second == set()


async def test_a_second_worker_takes_over_when_the_first_fails(database: Database) -> None:
    event = uuid7()
    second: asyncio.Task[set[UUID]]

    async def fail() -> None:
        nonlocal second
        async with database.transaction() as conn:
            await inbox.claim(conn, "auth.events", [event])
            second = asyncio.create_task(claim(database, event))
            await asyncio.wait({second}, timeout=0.3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await second == {event}


async def test_two_workers_with_the_same_events_in_another_order_do_not_block_each_other_for_ever(
    database: Database,
) -> None:
    events = [uuid7() for _ in range(200)]

    for _ in range(5):
        claimed = await asyncio.gather(claim(database, *events), claim(database, *reversed(events)))
        assert sorted(event for part in claimed for event in part) == events
        events = [uuid7() for _ in range(200)]


async def test_all_old_rows_are_forgotten_however_many_there_are(database: Database) -> None:
    await claim(database, *[uuid7() for _ in range(5)])
    async with database.transaction() as conn:
        await conn.execute("UPDATE inbox SET received_at = now() - interval '31 days'")
    await claim(database, uuid7())

    await inbox.forget_all_before(database, 30, at_a_time=2)

    async with database.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM inbox") == 1


async def test_old_rows_are_forgotten_a_bounded_number_at_a_time(database: Database) -> None:
    old, new = [uuid7() for _ in range(5)], uuid7()
    await claim(database, *old)
    async with database.transaction() as conn:
        await conn.execute("UPDATE inbox SET received_at = now() - interval '31 days'")
    await claim(database, new)

    async with database.transaction() as conn:
        assert [await inbox.forget_before(conn, 30, limit=3) for _ in range(3)] == [3, 2, 0]

    assert await claim(database, new) == set()
    assert await claim(database, old[0]) == {old[0]}
