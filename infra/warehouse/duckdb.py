"""A warehouse in one DuckDB file, shared by the processes of one machine.

DuckDB locks its file to one process. So every operation takes its turn, opens the file, runs in
one transaction and closes it again (some 20 ms); a process killed at any moment leaves the last
committed state, and the next one goes on from there.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import pyarrow as pa

from infra.errors import (
    SchemaMismatchError,
    ServiceUnavailableError,
    TerminalError,
    TransientError,
)
from infra.ports import MergeResult, Scalar
from infra.warehouse.filelock import turn
from infra.warehouse.rows import canonical, checked
from infra.warehouse.staging import staging_name
from schemas.spec import TableSpec
from schemas.sql import Dialect, count_sql, ddl, merge_sql, select_sql

T = TypeVar("T")

LOCK_TIMEOUT_SECONDS: Final = 60.0
"""Long enough for the largest merges that wait in line; a dead process holds no lock."""

_DIALECT: Final = Dialect.DUCKDB
_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
}


class DuckDbWarehouse:
    """The ``Warehouse`` port on a DuckDB file; its folder is created when missing.

    Args:
        path: The file; ``<path>.lock`` and ``<path>.queue`` stand beside it.
        lock_timeout_seconds: How long an operation waits for its turn before it raises
            TransientError.
    """

    def __init__(self, path: Path, *, lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> None:
        self._path = path
        self._lock_timeout_seconds = lock_timeout_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="duckdb")

    async def open(self, tables: Sequence[TableSpec]) -> None:
        """Create the tables that are missing.

        Raises:
            ServiceUnavailableError: the file can't be opened or is no DuckDB file.
            SchemaMismatchError: a table exists with other columns.
        """
        await self._run(lambda connection: _create(connection, tables))

    async def close(self) -> None:
        """Finish what is under way, then let go."""
        await asyncio.to_thread(self._thread.shutdown)

    async def merge(
        self, table: TableSpec, rows: pa.Table, *, claim: str, constants: Mapping[str, Scalar]
    ) -> MergeResult:
        """Merge rows by the table's key; see the port."""

        def merge(connection: duckdb.DuckDBPyConnection) -> MergeResult:
            return _merge(connection, table, source, claim, constants)

        source = await asyncio.to_thread(checked, table, rows, constants)
        return await self._run(merge) if source.num_rows else MergeResult(0, 0, 0)

    async def read(
        self, table: TableSpec, *, where: Mapping[str, Scalar], columns: Sequence[str] = ()
    ) -> pa.Table:
        """The rows whose columns equal ``where``, in key order."""
        sql = select_sql(table, _DIALECT, (table.name,), where=where, columns=columns)
        rows = await self._run(lambda connection: connection.sql(sql).to_arrow_table())
        return await asyncio.to_thread(canonical, table, rows)

    async def count(
        self, table: TableSpec, *, where: Mapping[str, Scalar], by: Sequence[str]
    ) -> pa.Table:
        """Rows counted by the given columns, in their order; the count is ``n``."""
        sql = count_sql(table, _DIALECT, (table.name,), where=where, by=by)
        return await self._run(lambda connection: connection.sql(sql).to_arrow_table())

    async def _run(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._in_transaction, work)

    def _in_transaction(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        with self._turn(), self._connection() as connection, _named_errors(self._path):
            connection.begin()
            result = work(connection)
            connection.commit()
            return result

    @contextmanager
    def _turn(self) -> Iterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with turn(self._path, timeout_seconds=self._lock_timeout_seconds):
                yield
        except TimeoutError as error:
            raise TransientError(f"warehouse {self._path} is busy: {error}") from error
        except OSError as error:
            raise ServiceUnavailableError(f"warehouse {self._path}: {error}") from error

    @contextmanager
    def _connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            connection = duckdb.connect(str(self._path), config=_CONFIG)
        except duckdb.IOException as error:
            if "Could not set lock" in str(error):
                raise TransientError(
                    f"warehouse {self._path} is open in a program that is not a worker: {error}",
                    retry_after_seconds=5.0,
                ) from error
            raise ServiceUnavailableError(f"warehouse {self._path}: {error}") from error
        with connection:
            yield connection


def _create(connection: duckdb.DuckDBPyConnection, tables: Sequence[TableSpec]) -> None:
    with duckdb.connect(":memory:", config=_CONFIG) as pattern:
        for spec in tables:
            sql = ddl(spec, _DIALECT, (spec.name,))
            connection.execute(sql)
            pattern.execute(sql)
            found, expected = _columns(connection, spec.name), _columns(pattern, spec.name)
            if found != expected:
                raise SchemaMismatchError(
                    f"table {spec.name!r} exists with other columns: {found}, not {expected}; "
                    "move the file away, or change the table",
                )


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str, bool]]:
    return connection.execute(
        "SELECT column_name, data_type, is_nullable FROM duckdb_columns() "
        "WHERE table_name = ? ORDER BY column_index",
        [table],
    ).fetchall()


def _merge(
    connection: duckdb.DuckDBPyConnection,
    spec: TableSpec,
    rows: pa.Table,
    claim: str,
    constants: Mapping[str, Scalar],
) -> MergeResult:
    staging = staging_name(claim)
    connection.register(staging, rows)
    count = count_sql(spec, _DIALECT, (spec.name,), where=constants)
    sql = merge_sql(spec, _DIALECT, (spec.name,), (staging,), constants)
    before = _number(connection, count)
    changed = _number(connection, sql)
    inserted = _number(connection, count) - before
    return MergeResult(rows.num_rows, inserted, changed - inserted)


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.TransactionException, duckdb.OutOfMemoryException) as error:
        raise TransientError(f"warehouse {path}: {error}") from error
    except (duckdb.IOException, duckdb.InternalException) as error:
        raise ServiceUnavailableError(f"warehouse {path}: {error}") from error
    except (duckdb.ConstraintException, duckdb.ConversionException) as error:
        raise SchemaMismatchError(f"warehouse {path}: {error}") from error
    except duckdb.Error as error:
        raise TerminalError(f"warehouse {path}: {error}") from error
