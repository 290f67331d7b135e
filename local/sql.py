"""Asks a database one thing, from code that is not asynchronous."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement and give its rows."""
    # In a thread of its own, as the caller's may already run an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _query(url, sql)).result()


def serves(url: str) -> bool:
    """Whether the database can be used right now."""
    import asyncpg  # noqa: PLC0415 - as below

    try:
        return query(url, "SELECT 1") == [(1,)]
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


async def _query(url: str, sql: str) -> list[tuple[Any, ...]]:
    import asyncpg  # noqa: PLC0415 - `make clean` loads this module also where no environment is left

    connection = await asyncpg.connect(url, timeout=10)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()
