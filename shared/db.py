"""Postgres: the pool, visible transactions, and what its errors mean.

A database that is away, restarting or not yet migrated surfaces as `Unavailable`: an API answers 503 with Retry-After
and recovers by itself, a consumer waits (a dead connection costs one failed call, then the pool makes a new one).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from shared import migrate
from shared.errors import Failure, FieldError, Invalid, Unavailable

log = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Row = asyncpg.Record

_CONNECT_SECONDS: Final = 5.0
_STATEMENT_SECONDS: Final = 60
# A transaction that idles pins old row versions for the whole database (docs/messaging.md M3.3).
_IDLE_IN_TRANSACTION: Final = "30s"
# The server asks after a silent client, and lets go of the locks of one whose machine is gone; by its system's default
# that takes more than two hours, in which no other relay could lead.
_KEEPALIVES: Final = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}

_FIRST_MISSING: Final = """
SELECT name FROM unnest($1::text[]) AS needed (name)
WHERE NOT EXISTS (SELECT FROM schema_migrations AS done WHERE done.name = needed.name)
ORDER BY name LIMIT 1
"""

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,  # too many connections, a full disk, no memory
    asyncpg.ReadOnlySQLTransactionError,  # a standby before it takes over
    asyncpg.IdleInTransactionSessionTimeoutError,
)
_NOT_MIGRATED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidAuthorizationSpecificationError,
)
_TRY_AGAIN = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    # The columns changed under a prepared statement: a migration ran; the next attempt prepares it anew.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
    TimeoutError,
)
_BAD_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or its schema is not there yet."""

    code = "DATABASE_UNAVAILABLE"
    message = "The database is not available. Try again later."


class Database:
    """The pool of one service; opens lazily, so that a service may start before its database."""

    def __init__(self, url: str, *, schema: str, pool_size: int = 10, migrations: Path | None = None) -> None:
        """Take the migrations that the code needs from this folder, where there is one."""
        self._url = url
        self._schema = schema
        self._needed = migrate.names(migrations) if migrations else []
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    @property
    def schema(self) -> str:
        """Name the service's schema."""
        return self._schema

    async def close(self) -> None:
        """Close the pool; connections in use get a moment to finish."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), timeout=_CONNECT_SECONDS)
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for reads and single statements."""
        pool = await self._open_pool()
        conn = await self._acquire(pool)
        try:
            with meaning_of_errors(conn):
                yield conn
        finally:
            await _give_back(pool, conn)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside a transaction that commits when the block ends well."""
        async with self.connection() as conn, conn.transaction():
            yield conn

    async def dedicated(self) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection outside the pool, for a session lock; the caller closes it."""
        with _meaning_of_connecting():
            conn = await asyncpg.connect(
                self._url,
                timeout=_CONNECT_SECONDS,
                command_timeout=_STATEMENT_SECONDS,
                server_settings=self._server_settings(),
            )
            try:
                await _prepare(conn)
            except BaseException:  # whoever is cancelled here has no connection yet that could be closed
                conn.terminate()
                raise
            return conn

    async def ping(self) -> None:
        """Raise Unavailable unless the service's own tables answer, as the code needs them."""
        async with self.connection() as conn:
            try:
                missing = await conn.fetchval(_FIRST_MISSING, self._needed, timeout=_CONNECT_SECONDS)
            except asyncpg.InsufficientPrivilegeError as error:  # the migrate step gives the right to look
                raise DatabaseUnavailable("The schema is not migrated yet (by this version).") from error
        if missing:
            raise DatabaseUnavailable(f"The schema is not migrated yet ({missing} is missing).")

    async def _open_pool(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._pool_size,
                    timeout=_CONNECT_SECONDS,
                    command_timeout=_STATEMENT_SECONDS,
                    init=_prepare,
                    server_settings=self._server_settings(),
                )
            return self._pool

    async def _acquire(self, pool: asyncpg.Pool[asyncpg.Record]) -> PoolConnectionProxy[asyncpg.Record]:
        with _meaning_of_connecting():
            return await pool.acquire(timeout=_CONNECT_SECONDS * 2)

    def _server_settings(self) -> dict[str, str]:
        return {
            "search_path": self._schema,
            "application_name": f"partner-hub {self._schema}",
            "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION,
            "statement_timeout": f"{_STATEMENT_SECONDS}s",
            **_KEEPALIVES,
        }


@contextmanager
def violations(meanings: Mapping[str, type[Failure]]) -> Iterator[None]:
    """Turn the violation of a named constraint into the domain's own error."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        meaning = meanings.get(str(error.constraint_name))
        if meaning is None:
            raise
        raise meaning() from error


@contextmanager
def meaning_of_errors(conn: Connection) -> Iterator[None]:
    """Say in our own words what a Postgres error means to the caller."""
    try:
        yield
    except _AWAY as error:
        raise DatabaseUnavailable from error
    except _NOT_MIGRATED as error:
        raise DatabaseUnavailable(f"The schema is not migrated yet ({type(error).__name__}).") from error
    except _TRY_AGAIN as error:
        raise Unavailable(retry_after=1) from error
    except _BAD_TEXT as error:
        raise Invalid(fields=[FieldError("", "Text must not contain NUL characters.")]) from error
    except asyncpg.InternalClientError as error:
        # The server's farewell has arrived and the end of the connection not yet: "another operation is in progress".
        conn.terminate()
        raise DatabaseUnavailable from error
    except asyncpg.InterfaceError as error:
        if not _is_gone(conn):
            raise
        raise DatabaseUnavailable from error


def _is_gone(conn: Connection) -> bool:
    try:
        return conn.is_closed()
    except asyncpg.InterfaceError:  # it broke, and the pool has taken it back from us
        return True


@contextmanager
def _meaning_of_connecting() -> Iterator[None]:
    try:
        yield
    except (OSError, TimeoutError, *_AWAY) as error:
        raise DatabaseUnavailable from error
    except _NOT_MIGRATED as error:
        raise DatabaseUnavailable(f"The schema is not migrated yet ({type(error).__name__}).") from error
    except asyncpg.InterfaceError as error:  # the pool is closing
        raise DatabaseUnavailable from error


async def _give_back(pool: asyncpg.Pool[asyncpg.Record], conn: PoolConnectionProxy[asyncpg.Record]) -> None:
    try:
        await pool.release(conn, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        # The answer is already decided; a connection that can't be cleaned is dropped by the pool.
        log.info("a database connection was lost while it was given back")


async def _prepare(conn: Any) -> None:
    """Read and write json columns as Python values."""
    for kind in ("json", "jsonb"):
        await conn.set_type_codec(
            kind, schema="pg_catalog", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads
        )
