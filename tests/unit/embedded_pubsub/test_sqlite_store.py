"""The SQLite store: what is committed comes back, all or nothing."""

import sqlite3
from dataclasses import replace

import pytest

from embedded_pubsub.changes import (
    DropAck,
    DropMessage,
    DropSubscription,
    DropTopic,
    PutAck,
    PutAttempt,
    PutMessage,
    PutSeek,
    PutSnapshot,
    PutSubscription,
    PutTopic,
)
from embedded_pubsub.errors import DataDirError, ResourceExhaustedError
from embedded_pubsub.store import SqliteStore


def message(seq, body, topic=1):
    return PutMessage(seq, topic, 0.5, "", len(body), body)


@pytest.fixture
def reopened(tmp_path):
    """Commit groups of changes and give what a later opening finds."""

    def commit(*groups):
        store = SqliteStore(tmp_path)
        for group in groups:
            store.commit(group)
        store.close()
        store = SqliteStore(tmp_path)
        saved = store.load()
        saved = replace(saved, messages=list(saved.messages), acks=list(saved.acks))
        store.close()
        return saved

    return commit


def test_everything_put_comes_back(reopened):
    puts = [
        PutTopic(1, b"topic"),
        PutSubscription(2, 1, 2, b"subscription"),
        PutSnapshot(3, 1, 3, "[4]", b"snapshot"),
        message(4, b"message", 1),
        PutAck(4, 2),
        PutAttempt(4, 2, 1),
        PutSeek(2, 5),
    ]
    saved = reopened(puts)
    assert saved.opening == 2
    assert [
        *saved.topics,
        *saved.subscriptions,
        *saved.snapshots,
        *(PutMessage(*head, body) for head, body in zip(saved.messages, [b"message"], strict=True)),
        *saved.acks,
        *saved.attempts,
        *saved.seeks,
    ] == puts


def test_changes_apply_in_their_order(reopened):
    saved = reopened(
        [message(1, b"a", 1), PutAck(1, 2), DropAck(1, 2), message(2, b"b", 1)],
        [PutTopic(9, b"old"), PutTopic(9, b"new"), PutAttempt(1, 2, 1), PutAttempt(1, 2, 2)],
    )
    assert [seq for seq, *_ in saved.messages] == [1, 2]
    assert not saved.acks
    assert list(saved.topics) == [PutTopic(9, b"new")]
    assert list(saved.attempts) == [PutAttempt(1, 2, 2)]


def test_drops_take_what_belongs_along(reopened):
    saved = reopened(
        [message(1, b"a", 1), PutAck(1, 2), PutAttempt(1, 2, 1), DropMessage(1)],
        [
            PutTopic(3, b""),
            PutSubscription(4, 3, 4, b""),
            PutAck(5, 4),
            PutAttempt(5, 4, 1),
            PutSeek(4, 6),
        ],
        [DropTopic(3), DropSubscription(4)],
    )
    assert not any((saved.topics, saved.subscriptions, saved.messages, saved.acks, saved.attempts))
    assert not saved.seeks


def test_openings_are_counted(tmp_path):
    openings = []
    for _ in range(3):
        store = SqliteStore(tmp_path)
        openings.append(store.load().opening)
        store.close()
    assert openings == [1, 2, 3]


def test_failed_commit_writes_nothing_and_the_store_goes_on(tmp_path):
    store = SqliteStore(tmp_path)
    with pytest.raises(ResourceExhaustedError, match="can't write"):
        store.commit([message(1, b"x", 1), message(2, b"y", None)])
    store.commit([message(3, b"z", 1)])
    assert [seq for seq, *_ in store.load().messages] == [3]
    store.close()


def test_full_disk_refuses_and_heals(tmp_path):
    store = SqliteStore(tmp_path)
    store._writer.execute("PRAGMA max_page_count = 20")
    with pytest.raises(ResourceExhaustedError, match="full"):
        store.commit([message(1, b"x" * 1_000_000, 1)])
    store._writer.execute("PRAGMA max_page_count = 100000")
    store.commit([message(1, b"x" * 1_000_000, 1)])
    assert len(list(store.load().messages)) == 1
    store.close()


def test_second_opening_names_the_folder(tmp_path):
    store = SqliteStore(tmp_path)
    with pytest.raises(DataDirError, match="another server has it open") as refused:
        SqliteStore(tmp_path)
    assert str(tmp_path) in str(refused.value)
    store.close()
    SqliteStore(tmp_path).close()


def test_folder_that_is_a_file_is_named(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(DataDirError, match="file"):
        SqliteStore(path)


def test_file_that_is_not_a_database_is_refused(tmp_path):
    (tmp_path / "pubsub.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(DataDirError, match="not a database"):
        SqliteStore(tmp_path)


def test_other_format_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "pubsub.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DataDirError, match="format 99"):
        SqliteStore(tmp_path)


def test_file_that_lacks_a_table_is_refused(tmp_path):
    SqliteStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "pubsub.sqlite3") as connection:
        connection.execute("DROP TABLE acks")
    connection.close()
    with pytest.raises(DataDirError, match="can't be read"):
        SqliteStore(tmp_path).load()
