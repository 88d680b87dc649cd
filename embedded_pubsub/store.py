"""Where the changes are kept: nowhere (in memory), or in a SQLite file that outlives a kill.

The store is written by one thread, a whole group of changes per transaction. On opening it gives
back all that it holds; it is not read again.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    PutOwed,
    PutPolicy,
    PutSchema,
    PutSeek,
    PutSnapshot,
    PutSubscription,
    PutTopic,
    PutUse,
)
from embedded_pubsub.errors import DataDirError, DataDirInUseError, ResourceExhaustedError
from embedded_pubsub.formats import migrate

FORMAT = 4
"""The version of the tables below, kept in SQLite's `user_version`; `formats` knows the former."""

RESIDENT_BYTES = 64 * 2**20
"""Bodies that are also kept in memory: what is consumed soon is not read back."""

READ_AT_ONCE = 500

_TABLES = """
CREATE TABLE IF NOT EXISTS openings (number INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS topics (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS subscriptions (
  number INTEGER PRIMARY KEY, topic INTEGER NOT NULL, start INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS snapshots (
  number INTEGER PRIMARY KEY, topic INTEGER NOT NULL, after INTEGER NOT NULL, seqs TEXT NOT NULL,
  body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
  seq INTEGER PRIMARY KEY, topic INTEGER NOT NULL, publish_time REAL NOT NULL,
  ordering_key TEXT NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS heads ON messages (seq, topic, publish_time, ordering_key, size);
CREATE TABLE IF NOT EXISTS acks (seq INTEGER, subscription INTEGER, PRIMARY KEY (seq, subscription))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owed (seq INTEGER, subscription INTEGER, PRIMARY KEY (seq, subscription))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
  seq INTEGER, subscription INTEGER, attempt INTEGER NOT NULL, PRIMARY KEY (seq, subscription))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schemas (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS policies (resource TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS uses (subscription INTEGER PRIMARY KEY, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS seeks (subscription INTEGER PRIMARY KEY, first INTEGER NOT NULL);
"""

_STATEMENTS: dict[type, tuple[str, ...]] = {
    PutTopic: ("INSERT OR REPLACE INTO topics VALUES (?, ?)",),
    DropTopic: ("DELETE FROM topics WHERE number = ?",),
    PutSubscription: ("INSERT OR REPLACE INTO subscriptions VALUES (?, ?, ?, ?)",),
    DropSubscription: (
        "DELETE FROM subscriptions WHERE number = ?",
        "DELETE FROM acks WHERE subscription = ?",
        "DELETE FROM owed WHERE subscription = ?",
        "DELETE FROM attempts WHERE subscription = ?",
        "DELETE FROM uses WHERE subscription = ?",
        "DELETE FROM seeks WHERE subscription = ?",
    ),
    PutSnapshot: ("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)",),
    DropSnapshot: ("DELETE FROM snapshots WHERE number = ?",),
    PutMessage: ("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?, ?)",),
    DropMessage: (
        "DELETE FROM messages WHERE seq = ?",
        "DELETE FROM acks WHERE seq = ?",
        "DELETE FROM owed WHERE seq = ?",
        "DELETE FROM attempts WHERE seq = ?",
    ),
    PutAck: ("INSERT OR IGNORE INTO acks VALUES (?, ?)",),
    DropAck: ("DELETE FROM acks WHERE seq = ? AND subscription = ?",),
    PutOwed: ("INSERT OR IGNORE INTO owed VALUES (?, ?)",),
    PutAttempt: ("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)",),
    PutSeek: ("INSERT OR REPLACE INTO seeks VALUES (?, ?)",),
    PutUse: ("INSERT OR REPLACE INTO uses VALUES (?, ?)",),
    PutSchema: ("INSERT OR REPLACE INTO schemas VALUES (?, ?)",),
    DropSchema: ("DELETE FROM schemas WHERE number = ?",),
    PutPolicy: ("INSERT OR REPLACE INTO policies VALUES (?, ?)",),
    DropPolicy: ("DELETE FROM policies WHERE resource = ?",),
}


Read = Callable[[Sequence[int]], Mapping[int, bytes]]


def _nothing(_: Sequence[int]) -> Mapping[int, bytes]:
    return {}


@dataclass(frozen=True, slots=True)
class Saved:
    """All that a store holds; `opening` counts how often it was opened, from 1.

    `messages` (seq, topic, publish_time, ordering_key, size), `acks` and `owed` (seq, subscription)
    may be read once only: they come from the file as they are asked for. `read` gives the bodies
    of messages that were committed.
    """

    opening: int = 1
    topics: Sequence[PutTopic] = ()
    subscriptions: Sequence[PutSubscription] = ()
    snapshots: Sequence[PutSnapshot] = ()
    messages: Iterable[tuple[int, int, float, str, int]] = ()
    acks: Iterable[tuple[int, int]] = ()
    owed: Iterable[tuple[int, int]] = ()
    attempts: Sequence[PutAttempt] = ()
    seeks: Sequence[PutSeek] = ()
    uses: Sequence[PutUse] = ()
    schemas: Sequence[PutSchema] = ()
    policies: Sequence[PutPolicy] = ()
    read: Read = _nothing


class Store(Protocol):
    """Keeps changes.

    `durable` tells whether `commit` does anything; bodies beyond `resident_bytes` are left to it.
    """

    durable: bool
    resident_bytes: float

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
    resident_bytes = float("inf")

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
        resident_bytes: Bodies beyond so many bytes are not kept in memory.

    Raises:
        DataDirError: The folder is in use, can't be written, or holds another format.
    """

    durable = True

    def __init__(
        self, data_dir: Path, *, fsync: bool = True, resident_bytes: float = RESIDENT_BYTES
    ) -> None:
        self.resident_bytes = resident_bytes
        self._data_dir = data_dir
        self._connections: list[sqlite3.Connection] = []
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._writer = self._connect("pubsub.sqlite3")
            self._opening = self._open(fsync=fsync)
            self._reader = self._connect("pubsub.sqlite3")
            self._reader.execute("PRAGMA query_only = ON")
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise DataDirError(f"data_dir {data_dir}: can't be used: {error}.") from error
        except DataDirError:
            self.close()
            raise

    def load(self) -> Saved:
        """Give all that is held, messages in the order of their publishing.

        Raises:
            DataDirError: The file is damaged.
        """
        try:
            return self._saved()
        except sqlite3.Error as error:
            self.close()
            raise DataDirError(f"data_dir {self._data_dir}: can't be read: {error}.") from error

    def _saved(self) -> Saved:
        return Saved(
            opening=self._opening,
            topics=[PutTopic(*row) for row in self._rows("topics", "number")],
            subscriptions=[PutSubscription(*row) for row in self._rows("subscriptions", "number")],
            snapshots=[PutSnapshot(*row) for row in self._rows("snapshots", "number")],
            messages=self._reader.execute(
                "SELECT seq, topic, publish_time, ordering_key, size FROM messages "
                "INDEXED BY heads ORDER BY seq"
            ),
            acks=self._rows("acks", "seq"),
            owed=self._rows("owed", "seq"),
            attempts=[PutAttempt(*row) for row in self._rows("attempts", "seq")],
            seeks=[PutSeek(*row) for row in self._rows("seeks", "subscription")],
            uses=[PutUse(*row) for row in self._rows("uses", "subscription")],
            schemas=[PutSchema(*row) for row in self._rows("schemas", "number")],
            policies=[PutPolicy(*row) for row in self._rows("policies", "resource")],
            read=self.read,
        )

    def read(self, seqs: Sequence[int]) -> Mapping[int, bytes]:
        """Give the bodies of committed messages."""
        found: dict[int, bytes] = {}
        for start in range(0, len(seqs), READ_AT_ONCE):
            some = seqs[start : start + READ_AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT seq, body FROM messages WHERE seq IN ({marks})"  # noqa: S608 - marks only
            found.update(self._reader.execute(query, some))
        return found

    def commit(self, changes: Iterable[Change]) -> None:
        """Write the changes in one transaction.

        Raises:
            ResourceExhaustedError: They could not be written; nothing of them was.
        """
        try:
            self._writer.execute("BEGIN")
            for kind, group in groupby(changes, type):
                self._write(kind, list(group))
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise ResourceExhaustedError(
                f"data_dir {self._data_dir}: can't write: {error}."
            ) from error

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of the folder."""
        for connection in reversed(self._connections):
            connection.close()

    def _connect(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._data_dir / name, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._connections.append(connection)
        return connection

    def _lock(self) -> None:
        """Hold a lock that ends with the process, however that ends."""
        try:
            self._connect("pubsub.lock").execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise DataDirInUseError(
                f"data_dir {self._data_dir}: another server has it open. Stop that one, or use "
                "another folder."
            ) from error

    def _open(self, *, fsync: bool) -> int:
        writer = self._writer
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
        writer.execute("BEGIN IMMEDIATE")
        version = writer.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise DataDirError(
                f"data_dir {self._data_dir}: holds format {version}, this server reads {FORMAT}. "
                "Use another folder, or the release that wrote this one."
            )
        if version < FORMAT:
            migrate(writer, version)
            for statement in _TABLES.split(";"):
                writer.execute(statement)
            writer.execute(f"PRAGMA user_version = {FORMAT}")
        opening = writer.execute("INSERT INTO openings DEFAULT VALUES").lastrowid
        writer.execute("COMMIT")
        return int(opening or 1)

    def _rows(self, table: str, order: str) -> sqlite3.Cursor:
        return self._reader.execute(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 - both are constants above

    def _write(self, kind: type, changes: list[Change]) -> None:
        for statement in _STATEMENTS[kind]:
            self._writer.executemany(statement, changes)

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
