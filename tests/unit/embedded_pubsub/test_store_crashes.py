"""A kill between any two statements of the store: all of a group is there, or nothing.

What a killed process leaves is what its files hold at that moment, so the folder is copied then.
"""

import shutil
from dataclasses import fields

import pytest

from embedded_pubsub import changes, protos
from embedded_pubsub.overview import overview
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.store import SqliteStore

TOPIC = protos.Topic(name="projects/p/topics/topic").SerializeToString()
SUBSCRIPTION = protos.Subscription(
    name="projects/p/subscriptions/subscription", topic="projects/p/topics/topic"
).SerializeToString()
SNAPSHOT = protos.Snapshot(
    name="projects/p/snapshots/snapshot", topic="projects/p/topics/topic"
).SerializeToString()
SCHEMA = protos.Schema(
    name="projects/p/schemas/schema",
    type_=protos.AVRO,
    definition='{"type": "record", "name": "R", "fields": []}',
    revision_id="abcdef01",
).SerializeToString()


def message(seq):
    body = protos.PubsubMessage(data=b"x" * 3000, message_id=str(seq)).SerializeToString()
    return changes.PutMessage(seq, 1, 0.5, "key", len(body), body)


GROUPS = [
    [changes.PutTopic(1, TOPIC), changes.PutPolicy("projects/p/topics/topic", b"")],
    [
        changes.PutSubscription(2, 1, 2, SUBSCRIPTION),
        changes.PutSubscription(3, 1, 3, SUBSCRIPTION),
    ],
    [message(10), message(11), message(12)],
    [changes.PutAttempt(10, 2, 1), changes.PutAck(10, 2), message(13), changes.PutUse(2, 5.0)],
    [changes.PutSnapshot(4, 1, 4, "[11]", SNAPSHOT), changes.PutSchema(5, SCHEMA)],
    [changes.PutOwed(11, 3), changes.DropAck(10, 2), changes.DropMessage(12)],
    [changes.PutTopic(1, TOPIC), changes.DropPolicy("projects/p/topics/topic")],
    [changes.DropSubscription(3), changes.DropSchema(5), changes.DropSnapshot(4)],
    [changes.DropTopic(1), *(changes.DropMessage(seq) for seq in (10, 11, 13))],
]


class Killed(BaseException):
    """The process ended here."""


class Dying:
    """A connection that ends its process before its `left`-th statement."""

    def __init__(self, connection, left):
        self._connection = connection
        self._left = left

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, *arguments):
        self._count()
        return self._connection.execute(*arguments)

    def executemany(self, statement, rows):
        self._count()
        return self._connection.executemany(statement, rows)

    def _count(self):
        self._left -= 1
        if self._left < 0:
            raise Killed


def contents(data_dir):
    store = SqliteStore(data_dir)
    saved = store.load()
    found = {
        field.name: list(getattr(saved, field.name))
        for field in fields(saved)
        if field.name not in {"opening", "read"}
    }
    found["bodies"] = store.read([head[0] for head in found["messages"]])
    store.close()
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What is there after each of the groups."""
    states = []
    for count in range(len(GROUPS) + 1):
        data_dir = tmp_path_factory.mktemp("expected")
        store = SqliteStore(data_dir, fsync=False)
        for group in GROUPS[:count]:
            store.commit(group)
        store.close()
        states.append(contents(data_dir))
    return states


def killed_after(statements, data_dir):
    """Give how many groups were committed before the kill, and whether there was one."""
    store = SqliteStore(data_dir, fsync=False)
    store._writer.execute("PRAGMA cache_size = 1")  # pages go to the file before the commit
    writer, store._writer = store._writer, Dying(store._writer, statements)
    committed = 0
    try:
        for group in GROUPS:
            store.commit(group)
            committed += 1
    except Killed:
        return store, writer, committed, True
    return store, writer, committed, False


def test_kill_between_any_two_statements_leaves_whole_groups(tmp_path, expected):
    statements, killed = 0, True
    while killed:
        alive, left = tmp_path / f"alive-{statements}", tmp_path / f"left-{statements}"
        store, writer, committed, killed = killed_after(statements, alive)
        shutil.copytree(alive, left)
        assert contents(left) == expected[committed], f"killed before statement {statements}"
        if writer.in_transaction:
            writer.execute("ROLLBACK")
        store.close()
        statements += 1
    assert statements > 4 * len(GROUPS)


@pytest.mark.parametrize("count", range(len(GROUPS) + 1))
async def test_state_can_be_rebuilt_from_any_prefix(tmp_path, count):
    store = SqliteStore(tmp_path, fsync=False)
    for group in GROUPS[:count]:
        store.commit(group)
    store.close()
    runtime = Runtime(SqliteStore(tmp_path, fsync=False), lambda: 1.0)
    assert overview(runtime)
    await runtime.close()


def test_kill_during_the_migration_leaves_the_former_format(tmp_path, former_store, monkeypatch):
    former_store(tmp_path / "data", 2)
    connect = SqliteStore._connect
    dying, statements, killed = [], 0, True
    while killed:
        alive, left = tmp_path / f"alive-{statements}", tmp_path / f"left-{statements}"
        shutil.copytree(tmp_path / "data", alive)
        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "_connect", _dying_connect(connect, statements, dying))
            killed = _is_killed(alive)
        shutil.copytree(alive, left)
        for connection in dying:
            connection.close()
        assert [head[:4] for head in contents(left)["messages"]] == [(7, 1, 42.5, "key")]
        statements += 1
    assert statements > 10


def _dying_connect(connect, statements, dying):
    def connect_to_die(store, name):
        connection = connect(store, name)
        dying.append(connection)
        return connection if name == "pubsub.lock" else Dying(connection, statements)

    return connect_to_die


def _is_killed(data_dir):
    try:
        SqliteStore(data_dir).close()
    except Killed:
        return True
    return False
