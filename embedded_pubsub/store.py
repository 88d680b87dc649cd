"""Where the changes are kept: nowhere (in memory), or in a SQLite file that outlives a kill.

The store is written by one thread, a whole group of changes per transaction. On opening it gives
back all that it holds; it is not read again.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

from embedded_pubsub.changes import (
    Change,
    DropAck,
    DropMessage,
    DropPolicy,
    DropSchema,
    DropSnapshot,
    DropSubscription,
    DropTopic,
    PutAck,
    PutAttempt,
    PutMessage,
    PutPolicy,
    PutSchema,
    PutSnapshot,
    PutSubscription,
    PutTopic,
)
from embedded_pubsub.errors import DataDirError, DataDirInUseError, ResourceExhaustedError

FORMAT = 2
"""The version of the tables below, kept in SQLite's `user_version`. Format 1 lacks the last two."""

_TABLES = """
CREATE TABLE IF NOT EXISTS openings (number INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS topics (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS subscriptions (
  number INTEGER PRIMARY KEY, topic INTEGER NOT NULL, start INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS snapshots (
  number INTEGER PRIMARY KEY, topic INTEGER NOT NULL, after INTEGER NOT NULL, seqs TEXT NOT NULL,
  body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
  seq INTEGER PRIMARY KEY, topic INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS acks (seq INTEGER, subscription INTEGER, PRIMARY KEY (seq, subscription))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
  seq INTEGER, subscription INTEGER, attempt INTEGER NOT NULL, PRIMARY KEY (seq, subscription))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schemas (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS policies (resource TEXT PRIMARY KEY, body BLOB NOT NULL);
"""

_STATEMENTS: dict[type, tuple[str, ...]] = {
    PutTopic: ("INSERT OR REPLACE INTO topics VALUES (?, ?)",),
    DropTopic: ("DELETE FROM topics WHERE number = ?",),
    PutSubscription: ("INSERT OR REPLACE INTO subscriptions VALUES (?, ?, ?, ?)",),
    DropSubscription: (
        "DELETE FROM subscriptions WHERE number = ?",
        "DELETE FROM acks WHERE subscription = ?",
        "DELETE FROM attempts WHERE subscription = ?",
    ),
    PutSnapshot: ("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)",),
    DropSnapshot: ("DELETE FROM snapshots WHERE number = ?",),
    PutMessage: ("INSERT OR REPLACE INTO messages VALUES (?, ?, ?)",),
    DropMessage: (
        "DELETE FROM messages WHERE seq = ?",
        "DELETE FROM acks WHERE seq = ?",
        "DELETE FROM attempts WHERE seq = ?",
    ),
    PutAck: ("INSERT OR IGNORE INTO acks VALUES (?, ?)",),
    DropAck: ("DELETE FROM acks WHERE seq = ? AND subscription = ?",),
    PutAttempt: ("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)",),
    PutSchema: ("INSERT OR REPLACE INTO schemas VALUES (?, ?)",),
    DropSchema: ("DELETE FROM schemas WHERE number = ?",),
    PutPolicy: ("INSERT OR REPLACE INTO policies VALUES (?, ?)",),
    DropPolicy: ("DELETE FROM policies WHERE resource = ?",),
}


@dataclass(frozen=True, slots=True)
class Saved:
    """All that a store holds; `opening` counts how often it was opened, from 1.

    `messages` (seq, topic, body) may be read once only: they come from the file as they are asked
    for. `acks` are pairs of seq and subscription.
    """

    opening: int = 1
    topics: Sequence[PutTopic] = ()
    subscriptions: Sequence[PutSubscription] = ()
    snapshots: Sequence[PutSnapshot] = ()
    messages: Iterable[tuple[int, int, bytes]] = ()
    acks: AbstractSet[tuple[int, int]] = frozenset()
    attempts: Sequence[PutAttempt] = ()
    schemas: Sequence[PutSchema] = ()
    policies: Sequence[PutPolicy] = ()


class Store(Protocol):
    """Keeps changes. `durable` tells whether `commit` does anything."""

    durable: bool

    def load(self) -> Saved:
        """Give all that is held, messages in the order of their publishing."""

    def commit(self, changes: Iterable[Change]) -> None:
        """Make the changes hold, all or none.

        Raises:
            ResourceExhaustedError: They could not be written.
        """

    def close(self) -> None:
        """Let go of the files."""


class MemoryStore:
    """Keeps nothing: what the state machine knows is all there is."""

    durable = False

    def load(self) -> Saved:
        """Give an empty state."""
        return Saved()

    def commit(self, changes: Iterable[Change]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class SqliteStore:
    """Keeps changes in `pubsub.sqlite3` in a folder that no other server may have open.

    Args:
        data_dir: The folder; made if it is absent.
        fsync: With True a commit survives a power cut (SQLite's `synchronous=FULL`); with False
            it survives the death of the process, not that of the machine (`NORMAL`).

    Raises:
        DataDirError: The folder is in use, can't be written, or holds another format.
    """

    durable = True

    def __init__(self, data_dir: Path, *, fsync: bool = True) -> None:
        self._data_dir = data_dir
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                data_dir / "pubsub.sqlite3",
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
        except (OSError, sqlite3.Error) as error:
            raise DataDirError(f"data_dir {data_dir}: can't be used: {error}.") from error
        try:
            self._opening = self._open(fsync=fsync)
        except sqlite3.Error as error:
            self._connection.close()
            raise self._open_error(error) from error
        except DataDirError:
            self._connection.close()
            raise

    def load(self) -> Saved:
        """Give all that is held, messages in the order of their publishing."""
        return Saved(
            opening=self._opening,
            topics=[PutTopic(*row) for row in self._rows("topics", "number")],
            subscriptions=[PutSubscription(*row) for row in self._rows("subscriptions", "number")],
            snapshots=[PutSnapshot(*row) for row in self._rows("snapshots", "number")],
            messages=self._rows("messages", "seq"),
            acks=frozenset(self._rows("acks", "seq")),
            attempts=[PutAttempt(*row) for row in self._rows("attempts", "seq")],
            schemas=[PutSchema(*row) for row in self._rows("schemas", "number")],
            policies=[PutPolicy(*row) for row in self._rows("policies", "resource")],
        )

    def commit(self, changes: Iterable[Change]) -> None:
        """Write the changes in one transaction.

        Raises:
            ResourceExhaustedError: They could not be written; nothing of them was.
        """
        try:
            self._connection.execute("BEGIN")
            for kind, group in groupby(changes, type):
                self._write(kind, list(group))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise ResourceExhaustedError(
                f"data_dir {self._data_dir}: can't write: {error}."
            ) from error

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of the folder."""
        self._connection.close()

    def _open(self, *, fsync: bool) -> int:
        connection = self._connection
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise DataDirError(
                f"data_dir {self._data_dir}: holds format {version}, this server reads {FORMAT}. "
                "Use another folder, or the release that wrote this one."
            )
        if version < FORMAT:
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        opening = connection.execute("INSERT INTO openings DEFAULT VALUES").lastrowid
        connection.execute("COMMIT")
        return int(opening or 1)

    def _open_error(self, error: sqlite3.Error) -> DataDirError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return DataDirInUseError(
                f"data_dir {self._data_dir}: another server has it open. Stop that one, or use "
                "another folder."
            )
        return DataDirError(f"data_dir {self._data_dir}: can't be used: {error}.")

    def _rows(self, table: str, order: str) -> sqlite3.Cursor:
        return self._connection.execute(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 - both are constants above

    def _write(self, kind: type, changes: list[Change]) -> None:
        for statement in _STATEMENTS[kind]:
            self._connection.executemany(statement, changes)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
