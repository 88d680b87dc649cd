"""The ledger in PostgreSQL (14 and up) or AlloyDB, for workers on many hosts."""

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from infra.errors import ServiceUnavailableError, SettingsError, TransientError
from infra.ledger import scripts, statements
from infra.ledger.base import SqlLedger
from infra.ledger.rows import Row
from infra.ledger.schema import POSTGRES
from infra.ledger.scripts import Many, Script, Statement

if TYPE_CHECKING:
    from asyncpg.pool import Pool, PoolConnectionProxy

T = TypeVar("T")

_TRIES_AFTER_CONFLICT = 5
_CONNECT_TIMEOUT_SECONDS = 10.0
_COMMAND_TIMEOUT_SECONDS = 60.0

_UNREACHABLE = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


class PostgresLedger(SqlLedger):
    """The ``Ledger`` port on PostgreSQL; used from the event loop that opened it.

    Args:
        dsn: ``postgresql://user:password@host:port/database?search_path=schema``.
        connections: The most connections that this process keeps.
    """

    def __init__(self, dsn: str, *, connections: int = 10) -> None:
        self._dsn = dsn
        self._connections = connections
        self._pool: Pool | None = None
        self._calls = 0
        self._no_calls = asyncio.Event()
        self._no_calls.set()

    async def open(self) -> None:
        """Connect, create the tables if missing. Raises ServiceUnavailableError, SettingsError."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._connections,
                timeout=_CONNECT_TIMEOUT_SECONDS,
                command_timeout=_COMMAND_TIMEOUT_SECONDS,
            )
            await self._write(lambda: scripts.migrate(POSTGRES))
        except asyncpg.ClientConfigurationError as error:
            raise SettingsError(
                f"the ledger's URL can't be read: {error}; "
                "write postgresql://user:password@host:port/database",
            ) from error
        except (*_UNREACHABLE, asyncpg.PostgresError, TransientError) as error:
            await self.close()
            # The DSN may hold a password, so it is not shown.
            raise ServiceUnavailableError(
                f"the ledger in PostgreSQL can't be opened: {error}"
            ) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what is under way, then let go of the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            # A pool that closes turns away the calls that wait for a connection.
            await self._no_calls.wait()
            await pool.close()

    async def _write(self, script: Callable[[], Script[T]]) -> T:
        if self._pool is None:
            raise RuntimeError("the ledger is closed: call open() first")
        self._calls += 1
        self._no_calls.clear()
        try:
            return await _run_until_no_conflict(self._pool, script)
        except (*_UNREACHABLE, asyncpg.OperatorInterventionError) as error:
            raise TransientError(f"the ledger in PostgreSQL does not answer: {error}") from error
        except asyncpg.TransactionRollbackError as error:
            raise TransientError(f"the ledger's transaction met others: {error}") from error
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._no_calls.set()

    async def _read(self, script: Callable[[], Script[T]]) -> T:
        return await self._write(script)


async def _run_until_no_conflict(pool: "Pool", script: Callable[[], Script[T]]) -> T:
    for _ in range(_TRIES_AFTER_CONFLICT - 1):
        try:
            return await _run(pool, script())
        except asyncpg.TransactionRollbackError:  # a deadlock, or the like
            continue
    return await _run(pool, script())


async def _run(pool: "Pool", script: Script[T]) -> T:
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="read_committed"),
    ):
        return await _drive(connection, script)


async def _drive(connection: "PoolConnectionProxy", script: Script[T]) -> T:
    try:
        statement = next(script)
        while True:
            statement = script.send(await _execute(connection, statement))
    except StopIteration as end:
        value: T = end.value
        return value


async def _execute(connection: "PoolConnectionProxy", statement: Statement) -> Sequence[Row]:
    sql = _rendered(statement.sql)
    if isinstance(statement, Many):
        await connection.executemany(sql, statement.parameters)
        return ()
    fetched: Sequence[Row] = await connection.fetch(sql, *statement.parameters)
    return fetched


@lru_cache(maxsize=128)
def _rendered(sql: str) -> str:
    return statements.render(sql, POSTGRES)
