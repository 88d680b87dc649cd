"""The ledger's tables, written once; a dialect fills in what its database calls things.

Times are integers, microseconds since 1970 UTC, in every dialect: equal statements, equal order.
JSON is kept as the text that was written, so that a receipt reads back as it was.
Rows are never deleted: a step's token only ever grows, and a receipt can always be given again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the databases.

    Attributes:
        fields: What a statement's ``{...}`` stand for: the types of columns; ``wanted``, a table
            ``wanted (id)`` of the JSON array of ids in ``$1``; ``skip_locked``, which passes over
            rows that another transaction is taking.
        lock_schema: Keeps others from creating the tables until the transaction ends.
    """

    fields: Mapping[str, str]
    lock_schema: str | None


SQLITE: Final = Dialect(
    fields={
        "text": "TEXT COLLATE BINARY",
        "integer": "INTEGER",
        "json": "TEXT",
        "bytes": "BLOB",
        "wanted": "(SELECT value AS id FROM json_each($1)) AS wanted",
        "skip_locked": "",
    },
    lock_schema=None,  # BEGIN IMMEDIATE does that
)

POSTGRES: Final = Dialect(
    fields={
        "text": 'TEXT COLLATE "C"',
        "integer": "BIGINT",
        "json": "JSON",
        "bytes": "BYTEA",
        "wanted": "json_array_elements_text($1::json) AS wanted (id)",
        "skip_locked": "FOR UPDATE SKIP LOCKED",
    },
    lock_schema="SELECT pg_advisory_xact_lock(7810049)",
)

SCHEMA_VERSION_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_version (version {integer} PRIMARY KEY)
"""

_STEPS = """
CREATE TABLE steps (
    subject           {text} NOT NULL,
    step              {text} NOT NULL,
    status            {text} NOT NULL
                      CHECK (status IN ('claimed', 'released', 'completed', 'failed')),
    token             {integer} NOT NULL,
    attempt           {integer} NOT NULL,
    owner             {text} NOT NULL,
    lease_until       {integer} NOT NULL,
    cause_id          {text} NOT NULL,
    cause_type        {text} NOT NULL,
    cause_time        {integer} NOT NULL,
    cause_traceparent {text},
    claimed_at        {integer} NOT NULL,
    ended_at          {integer},
    receipt           {json},
    outgoing_ids      {json},
    reason            {text},
    PRIMARY KEY (subject, step),
    CHECK ((status = 'completed') = (receipt IS NOT NULL))
)
"""

_OUTBOX = """
CREATE TABLE outbox (
    id           {text} PRIMARY KEY,
    subject      {text} NOT NULL,
    topic        {text} NOT NULL,
    data         {bytes} NOT NULL,
    attributes   {json} NOT NULL,
    ordering_key {text} NOT NULL,
    due          {integer} NOT NULL,
    saved_at     {integer} NOT NULL,
    place        {integer} NOT NULL,
    lease_owner  {text},
    lease_until  {integer} NOT NULL DEFAULT 0,
    published_at {integer}
)
"""

_OUTBOX_DUE = """
CREATE INDEX outbox_by_due ON outbox (due, saved_at, place, id) WHERE published_at IS NULL
"""

_OUTBOX_SUBJECT = """
CREATE INDEX outbox_by_subject ON outbox (subject) WHERE published_at IS NULL
"""

_SAGAS = """
CREATE TABLE sagas (
    saga       {text} NOT NULL,
    key        {text} NOT NULL,
    version    {integer} NOT NULL,
    state      {json} NOT NULL,
    updated_at {integer} NOT NULL,
    PRIMARY KEY (saga, key)
)
"""

_SAGA_HISTORY = """
CREATE TABLE saga_history (
    saga         {text} NOT NULL,
    key          {text} NOT NULL,
    version      {integer} NOT NULL,
    event_id     {text} NOT NULL,
    event_type   {text} NOT NULL,
    at           {integer} NOT NULL,
    event        {json} NOT NULL,
    decision     {json} NOT NULL,
    outgoing_ids {json} NOT NULL,
    PRIMARY KEY (saga, key, version),
    UNIQUE (saga, key, event_id)
)
"""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (_STEPS, _OUTBOX, _OUTBOX_DUE, _OUTBOX_SUBJECT, _SAGAS, _SAGA_HISTORY),
)
"""Item n takes the tables from version n to n + 1; an item that was released never changes."""
