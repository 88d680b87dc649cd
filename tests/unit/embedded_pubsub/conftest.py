"""Files that former versions of the store wrote."""

import sqlite3

import pytest

from embedded_pubsub import protos

_FORMAT_1 = """
CREATE TABLE openings (number INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE topics (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE subscriptions (
  number INTEGER PRIMARY KEY, topic INTEGER NOT NULL, start INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE snapshots (
  number INTEGER PRIMARY KEY, topic INTEGER NOT NULL, after INTEGER NOT NULL, seqs TEXT NOT NULL,
  body BLOB NOT NULL);
CREATE TABLE messages (seq INTEGER PRIMARY KEY, topic INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE acks (seq INTEGER, subscription INTEGER, PRIMARY KEY (seq, subscription))
  WITHOUT ROWID;
CREATE TABLE attempts (
  seq INTEGER, subscription INTEGER, attempt INTEGER NOT NULL, PRIMARY KEY (seq, subscription))
  WITHOUT ROWID;
INSERT INTO openings DEFAULT VALUES;
"""
_FORMAT_2 = """
CREATE TABLE schemas (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE policies (resource TEXT PRIMARY KEY, body BLOB NOT NULL);
"""


@pytest.fixture
def former_store():
    """Write a store of format 1 or 2 with a topic (1), a subscription (2) and a message (7)."""

    def write(data_dir, version):
        data_dir.mkdir()
        topic = protos.Topic(name="projects/p/topics/topic")
        subscription = protos.Subscription(
            name="projects/p/subscriptions/subscription", topic=topic.name, ack_deadline_seconds=10
        )
        message = protos.PubsubMessage(data=b"old", message_id="7", ordering_key="key")
        message.publish_time.FromMilliseconds(42_500)
        connection = sqlite3.connect(data_dir / "pubsub.sqlite3")
        connection.executescript(_FORMAT_1 + (_FORMAT_2 if version == 2 else ""))
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("INSERT INTO topics VALUES (1, ?)", [topic.SerializeToString()])
        connection.execute(
            "INSERT INTO subscriptions VALUES (2, 1, 2, ?)", [subscription.SerializeToString()]
        )
        connection.execute("INSERT INTO messages VALUES (7, 1, ?)", [message.SerializeToString()])
        connection.commit()
        connection.close()

    return write
