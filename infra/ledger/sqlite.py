"""The ledger in one SQLite file, safe for several processes of one machine.

All calls that wait while a transaction is being written go into the next one together (group
commit): one fsync pays for many. Each has a savepoint of its own, so that one that is refused
undoes nothing of the others.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from infra.errors import ServiceUnavailableError, TransientError
from infra.ledger import scripts, statements
from infra.ledger.base import SqlLedger
from infra.ledger.rows import Row
from infra.ledger.schema import SQLITE
from infra.ledger.scripts import Many, Script, Statement

T = TypeVar("T")

_BUSY_TIMEOUT_SECONDS = 30.0
_CALLS_PER_TRANSACTION = 256
_POLL_SECONDS = 0.002
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY)


@dataclass(frozen=True, slots=True)
class _Call:
    """A script that waits to be run, and who waits for it."""

    script: Callable[[], Script[Any]]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a call: a value, or an error."""

    call: _Call
    value: Any = None
    error: Exception | None = None


class SqliteLedger(SqlLedger):
    """The ``Ledger`` port on a SQLite file; used from the event loop that opened it.

    Args:
        path: The file; its folder is created. Beside it SQLite keeps ``-wal`` and ``-shm``, so
            it must lie on a local disk.
        busy_timeout_seconds: How long a transaction waits for another process's.
    """

    def __init__(self, path: Path, *, busy_timeout_seconds: float = _BUSY_TIMEOUT_SECONDS) -> None:
        self._path = path
        self._busy_timeout_seconds = busy_timeout_seconds
        self._writer: _Worker | None = None
        self._reader: _Worker | None = None

    async def open(self) -> None:
        """Create file and tables if missing. Raises ServiceUnavailableError, SettingsError."""
        loop = asyncio.get_running_loop()
        try:
            writing, reading = await asyncio.to_thread(self._connect_both)
        except (sqlite3.Error, OSError) as error:
            raise ServiceUnavailableError(
                f"the ledger {self._path} can't be opened: {error}"
            ) from error
        self._writer = _Worker("ledger-writer", writing, loop)
        self._reader = _Worker("ledger-reader", reading, loop)

    async def close(self) -> None:
        """Finish what is under way, then let go of the file."""
        workers = (self._reader, self._writer)
        self._reader = self._writer = None
        for worker in workers:
            if worker is not None:
                await worker.close()

    async def _write(self, script: Callable[[], Script[T]]) -> T:
        return await _opened(self._writer).run(script)

    async def _read(self, script: Callable[[], Script[T]]) -> T:
        return await _opened(self._reader).run(script)

    def _connect_both(self) -> tuple["_Connection", "_Connection"]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        writing = _Connection(self._path, "BEGIN IMMEDIATE", self._busy_timeout_seconds)
        try:
            writing.execute_when_free("PRAGMA journal_mode = WAL")
            writing.raw.execute("PRAGMA synchronous = FULL")
            with writing.transaction():
                writing.run(scripts.migrate(SQLITE))
            reading = _Connection(self._path, "BEGIN", self._busy_timeout_seconds)
        except BaseException:
            writing.raw.close()
            raise
        reading.raw.execute("PRAGMA query_only = ON")
        # A reader waits only while the log is mended after a crash; there SQLite's way will do.
        reading.raw.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout_seconds * 1000)}")
        return writing, reading


class _Connection:
    """A connection that waits its turn when other processes write; used by one thread."""

    def __init__(self, path: Path, begin: str, busy_timeout_seconds: float) -> None:
        self._begin = begin
        self._busy_timeout_seconds = busy_timeout_seconds
        self.raw = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)

    def execute_when_free(self, sql: str) -> None:
        """Run a statement for which other processes must let go of the file first.

        SQLite's own waiting backs off to 100 ms, in which a busy neighbour commits dozens of
        times; looking every few milliseconds gives each a fair share. And it does not wait at
        all for the switch to a write-ahead log.
        """
        deadline = time.monotonic() + self._busy_timeout_seconds
        while True:
            try:
                self.raw.execute(sql)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute_when_free(self._begin)
        try:
            yield
            self.raw.execute("COMMIT")
        except BaseException:
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
            raise

    def run(self, script: Script[T]) -> T:
        try:
            statement = next(script)
            while True:
                statement = script.send(self._execute(statement))
        except StopIteration as end:
            value: T = end.value
            return value

    def _execute(self, statement: Statement) -> Sequence[Row]:
        sql = _rendered(statement.sql)
        if isinstance(statement, Many):
            self.raw.executemany(sql, statement.parameters)
            return ()
        return self.raw.execute(sql, statement.parameters).fetchall()


class _Worker:
    """One thread with one connection, which runs the waiting calls together."""

    def __init__(self, name: str, connection: _Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._waiting: SimpleQueue[_Call | None] = SimpleQueue()
        # A daemon: a program that ends without close() must not wait for it for ever.
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, script: Callable[[], Script[T]]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Call(script, future))
        return await future

    async def close(self) -> None:
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.raw.close()

    def _work(self) -> None:
        last = False
        while not last:
            calls, last = self._next_calls()
            outcomes = self._run_together(calls)
            # The loop may have been closed by a program that did not close the ledger: then
            # nobody waits for these outcomes any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_deliver, outcomes)

    def _next_calls(self) -> tuple[list[_Call], bool]:
        """What waits, at least one call; and whether it was the last."""
        calls: list[_Call] = []
        call = self._waiting.get()
        while call is not None:
            # Nobody would learn of the outcome of a call given up before it began.
            if not call.future.cancelled():
                calls.append(call)
            if len(calls) == _CALLS_PER_TRANSACTION:
                return calls, False
            try:
                call = self._waiting.get_nowait()
            except Empty:
                return calls, False
        return calls, True

    def _run_together(self, calls: Sequence[_Call]) -> Sequence[_Outcome]:
        if not calls:
            return ()
        try:
            with self._connection.transaction():
                return [self._run_apart(call) for call in calls]
        except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it is
            return [_Outcome(call, error=_translated(error)) for call in calls]

    def _run_apart(self, call: _Call) -> _Outcome:
        raw = self._connection.raw
        raw.execute("SAVEPOINT call")
        try:
            outcome = _Outcome(call, self._connection.run(call.script()))
        except Exception as error:
            # A full disk and the like end the whole transaction: then all of it has failed.
            if not raw.in_transaction:
                raise
            raw.execute("ROLLBACK TO call")
            outcome = _Outcome(call, error=_translated(error))
        raw.execute("RELEASE call")
        return outcome


def _opened(worker: _Worker | None) -> _Worker:
    if worker is None:
        raise RuntimeError("the ledger is closed: call open() first")
    return worker


def _deliver(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.call.future
        if future.done():
            continue
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)


@lru_cache(maxsize=128)
def _rendered(sql: str) -> str:
    """SQLite's way to number parameters is ``?1``."""
    return statements.render(sql, SQLITE).replace("$", "?")


def _translated(error: Exception) -> Exception:
    if isinstance(error, sqlite3.OperationalError):
        transient = TransientError(f"the ledger's transaction failed: {error}")
        transient.__cause__ = error
        return transient
    return error
