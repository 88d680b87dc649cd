"""Files of former formats are taken over, in the transaction that the caller has begun.

| Format | Differs from the next one by |
|---|---|
| 1 | no schemas, no policies |
| 2 | a message's time, key and size are only in its body; no times of use |
| 3 | what a seek made void is not kept |
"""

import sqlite3

from embedded_pubsub.limits import seconds_of
from embedded_pubsub.protos import PubsubMessage

_WITH_HEADS = """
ALTER TABLE messages RENAME TO former_messages;
CREATE TABLE messages (
  seq INTEGER PRIMARY KEY, topic INTEGER NOT NULL, publish_time REAL NOT NULL,
  ordering_key TEXT NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL);
INSERT INTO messages
  SELECT seq, topic, publish_time(body), ordering_key(body), length(body), body
  FROM former_messages;
DROP TABLE former_messages;
"""


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables of a format (0: an empty file) to where missing ones can be added."""
    if version in {1, 2}:
        connection.create_function("publish_time", 1, _publish_time, deterministic=True)
        connection.create_function("ordering_key", 1, _ordering_key, deterministic=True)
        for statement in _WITH_HEADS.split(";"):
            connection.execute(statement)


def _publish_time(body: bytes) -> float:
    return seconds_of(PubsubMessage.FromString(body).publish_time)


def _ordering_key(body: bytes) -> str:
    return str(PubsubMessage.FromString(body).ordering_key)
