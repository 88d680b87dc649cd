"""Every statement that the ledger runs, readable by SQLite (3.35 and up) and PostgreSQL.

Parameters are ``$1``, ``$2``, ...; ``{...}`` is filled in by ``render``.
"""

from typing import Final

from infra.ledger.schema import Dialect

_FRAGMENTS: Final = {
    "step_columns": (
        "subject, step, status, owner, attempt, cause_id, cause_type, cause_time, "
        "cause_traceparent, claimed_at, ended_at, receipt, reason"
    ),
    "outgoing_columns": ("id, topic, data, attributes, due, ordering_key, saved_at, place"),
    "saga_columns": "saga, key, version, state, updated_at",
    # The character after "/" is "0": everything from "p/" up to "p0" lies below "p".
    "below": "(subject = $1 OR (subject >= $1 || '/' AND subject < $1 || '0'))",
}


def render(sql: str, dialect: Dialect) -> str:
    """A statement as the dialect's database reads it."""
    return sql.format_map({**_FRAGMENTS, **dialect.fields})


READ_VERSIONS: Final = "SELECT version FROM schema_version ORDER BY version"
ADD_VERSION: Final = "INSERT INTO schema_version (version) VALUES ($1)"

CLAIM: Final = """
INSERT INTO steps (
    subject, step, status, token, attempt, owner, lease_until,
    cause_id, cause_type, cause_time, cause_traceparent, claimed_at
)
VALUES ($1, $2, 'claimed', 1, 1, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (subject, step) DO UPDATE SET
    status = 'claimed',
    token = steps.token + 1,
    attempt = steps.attempt + 1,
    owner = excluded.owner,
    lease_until = excluded.lease_until,
    claimed_at = excluded.claimed_at,
    ended_at = NULL,
    reason = NULL
WHERE steps.status IN ('released', 'failed')
   OR (steps.status = 'claimed' AND steps.lease_until <= excluded.claimed_at)
RETURNING token, attempt
"""

READ_HOLDER: Final = """
SELECT owner, lease_until, receipt, outgoing_ids FROM steps WHERE subject = $1 AND step = $2
"""

RENEW: Final = """
UPDATE steps
SET lease_until = CASE WHEN lease_until > $4 THEN lease_until ELSE $4 END
WHERE subject = $1 AND step = $2 AND token = $3 AND status = 'claimed'
RETURNING lease_until
"""

COMPLETE: Final = """
UPDATE steps
SET status = 'completed', ended_at = $4, receipt = $5, outgoing_ids = $6
WHERE subject = $1 AND step = $2 AND token = $3 AND status = 'claimed'
RETURNING token
"""

RELEASE: Final = """
UPDATE steps
SET status = $4, ended_at = $5, reason = $6
WHERE subject = $1 AND step = $2 AND token = $3 AND status = 'claimed'
RETURNING token
"""

READ_STEP: Final = "SELECT {step_columns} FROM steps WHERE subject = $1 AND step = $2"

READ_STEPS: Final = """
SELECT {step_columns} FROM steps WHERE {below} ORDER BY claimed_at, subject, step
"""

ADD_OUTGOING: Final = """
INSERT INTO outbox (id, subject, topic, data, attributes, due, ordering_key, saved_at, place)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO NOTHING
"""

READ_OUTGOING: Final = """
SELECT {outgoing_columns} FROM outbox JOIN {wanted} USING (id)
"""

TAKE_DUE: Final = """
WITH taken AS MATERIALIZED (
    SELECT id FROM outbox
    WHERE published_at IS NULL AND due <= $1 AND lease_until <= $1
    ORDER BY due, saved_at, place, id
    LIMIT $4
    {skip_locked}
)
UPDATE outbox SET lease_owner = $2, lease_until = $3
WHERE id IN (SELECT id FROM taken)
RETURNING {outgoing_columns}
"""

PUBLISHED: Final = """
UPDATE outbox SET published_at = $2 WHERE id = $1 AND published_at IS NULL
"""

COUNT_UNPUBLISHED: Final = """
SELECT count(*) FROM outbox WHERE published_at IS NULL AND {below}
"""

READ_SAGA: Final = "SELECT {saga_columns} FROM sagas WHERE saga = $1 AND key = $2"

READ_SAGAS: Final = "SELECT {saga_columns} FROM sagas ORDER BY updated_at DESC, saga, key"

READ_SAGAS_NAMED: Final = """
SELECT {saga_columns} FROM sagas WHERE saga = $1 ORDER BY updated_at DESC, saga, key
"""

CREATE_SAGA: Final = """
INSERT INTO sagas (saga, key, version, state, updated_at) VALUES ($1, $2, 1, $3, $4)
ON CONFLICT (saga, key) DO NOTHING
RETURNING version
"""

ADVANCE_SAGA: Final = """
UPDATE sagas SET version = version + 1, state = $3, updated_at = $4
WHERE saga = $1 AND key = $2 AND version = $5
RETURNING version
"""

ADD_SAGA_STEP: Final = """
INSERT INTO saga_history (
    saga, key, version, event_id, event_type, at, event, decision, outgoing_ids
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (saga, key, event_id) DO NOTHING
RETURNING version
"""

READ_SAGA_HISTORY: Final = """
SELECT version, event_id, event_type, at, event, decision FROM saga_history
WHERE saga = $1 AND key = $2 ORDER BY version
"""

READ_SAGA_OUTGOING: Final = """
SELECT outgoing_ids FROM saga_history WHERE saga = $1 AND key = $2 AND event_id = $3
"""
