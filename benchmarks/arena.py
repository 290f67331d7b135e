"""The servers that all contenders share, and the ways to prepare them and to start a contender."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aio_pika
import asyncpg
import orjson

from local import infrastructure
from local.queues import purge
from shared.bus.declare import declare
from shared.migrate import migrate

HOME = Path(__file__).resolve().parent.parent
RUN_DIR = HOME / ".run" / "bench"
SCHEMA = "bench"
QUORUM = {"x-queue-type": "quorum"}
T = TypeVar("T")


class Arena:
    """PostgreSQL (with fsync) and RabbitMQ, the topology declared, one schema with outbox, inbox and effects."""

    def __init__(self, servers: infrastructure.Servers) -> None:
        self.servers = servers
        self.postgres_url = servers.postgres_url
        self.amqp_url = servers.amqp_url
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        await declare(self.amqp_url)
        await migrate(self.postgres_url, self.postgres_url, SCHEMA, HOME / "benchmarks" / "migrations")

    def clear(self) -> None:
        """Empty every table and queue, so that each contender begins alike."""
        asyncio.run(purge(self.amqp_url))
        self.execute("TRUNCATE outbox, outbox_sequences, inbox, effects")
        self.execute("VACUUM outbox, inbox, effects")
        self.execute("CHECKPOINT")

    def execute(self, sql: str) -> None:
        """Run one statement."""
        self.with_postgres(lambda conn: conn.execute(sql))

    def value(self, sql: str) -> Any:
        """Ask for one value."""
        return self.with_postgres(lambda conn: conn.fetchval(sql))

    def with_postgres(self, work: Any) -> Any:
        """Do something on a connection."""

        async def do() -> Any:
            conn = await asyncpg.connect(self.postgres_url, server_settings={"search_path": SCHEMA})
            try:
                return await work(conn)
            finally:
                await conn.close()

        return asyncio.run(do())

    def depth(self, queue: str) -> int:
        """Count what waits in a queue."""

        async def count() -> int:
            connection = await aio_pika.connect(self.amqp_url)
            async with connection:
                channel = await connection.channel()
                declared = await channel.declare_queue(queue, passive=True)
                return declared.declaration_result.message_count or 0

        return asyncio.run(count())

    def fresh_queue(self, queue: str) -> None:
        """Make an empty quorum queue for a peer, as durable as ours."""

        async def make() -> None:
            connection = await aio_pika.connect(self.amqp_url)
            async with connection:
                channel = await connection.channel()
                await channel.queue_delete(queue)
                await channel.declare_queue(queue, durable=True, arguments=dict(QUORUM))

        asyncio.run(make())

    def run(self, contender: str, *arguments: str) -> dict[str, float]:
        """Run a contender to its end and give the figures that it prints."""
        done = subprocess.run(
            self._command(contender, arguments),
            cwd=HOME,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=self._log(contender),
            check=True,
        )
        figures: dict[str, float] = orjson.loads(done.stdout.splitlines()[-1])
        return figures

    @contextmanager
    def running(self, contender: str, *arguments: str) -> Iterator[int]:
        """Let a contender run until the block ends; gives its process id."""
        with self._log(contender) as log:
            command = self._command(contender, arguments)
            process = subprocess.Popen(command, cwd=HOME, env=self._environment(), stdout=log, stderr=log)
            try:
                yield process.pid
                assert process.poll() is None, f"{contender} ended by itself: see {log.name}"
            finally:
                process.terminate()
                process.wait(timeout=30)

    def _command(self, contender: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", f"benchmarks.contenders.{contender}", *arguments]

    def _environment(self) -> dict[str, str]:
        return os.environ | {"BENCH_POSTGRES_URL": self.postgres_url, "BENCH_AMQP_URL": self.amqp_url}

    def _log(self, contender: str) -> Any:
        return (RUN_DIR / f"{contender}.log").open("ab")


@contextmanager
def arena() -> Iterator[Arena]:
    """Start the servers of the benchmarks, and stop them after; one run at a time, or they would share the machine."""
    RUN_DIR.mkdir(parents=True, exist_ok=True)
    with (RUN_DIR / "one-at-a-time").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another run of the benchmarks is under way; waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        servers = infrastructure.start(RUN_DIR)
        try:
            yield Arena(servers)
        finally:
            infrastructure.stop(RUN_DIR)


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return asyncio.run(work)
