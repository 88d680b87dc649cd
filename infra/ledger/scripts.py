"""What each call of the ledger does in its transaction, for any database.

A script yields statements and is sent their rows; it does no I/O itself. What it raises undoes
what it did. An adapter only has to run it: SQLite in its thread, PostgreSQL on the event loop.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from infra.errors import SettingsError, StaleClaimError
from infra.ledger import rows, statements
from infra.ledger.rows import Row
from infra.ledger.schema import MIGRATIONS, SCHEMA_VERSION_TABLE, Dialect
from infra.ports import Claim, ClaimKey, Completed, Held, Outgoing


@dataclass(frozen=True, slots=True)
class One:
    """A statement to run once; its rows are sent back."""

    sql: str
    parameters: Row = ()


@dataclass(frozen=True, slots=True)
class Many:
    """A statement to run for each row of parameters; no rows come back."""

    sql: str
    parameters: Sequence[Row]


Statement: TypeAlias = One | Many
T = TypeVar("T")
Script: TypeAlias = Generator[Statement, Sequence[Row], T]


@dataclass(frozen=True, slots=True)
class SagaChange:
    """What ``advance_saga`` saves, as columns."""

    saga: str
    key: str
    expected_version: int
    state: str
    updated_at: int
    event_id: str
    event_row: Row
    """event_type, at, event, decision, outgoing_ids."""
    outgoing: Sequence[Row]


def migrate(dialect: Dialect) -> Script[None]:
    """Create the tables, or bring them to this program's version."""
    if dialect.lock_schema is not None:
        yield One(dialect.lock_schema)
    yield One(SCHEMA_VERSION_TABLE)
    versions = yield One(statements.READ_VERSIONS)
    found = versions[-1][0] if versions else 0
    if found > len(MIGRATIONS):
        raise SettingsError(
            f"the ledger has schema version {found}, this program knows {len(MIGRATIONS)}: "
            "use the newer program, or another ledger",
        )
    for version, ddl in enumerate(MIGRATIONS[found:], start=found + 1):
        for statement in ddl:
            yield One(statement)
        yield One(statements.ADD_VERSION, (version,))


def claim(
    key: ClaimKey, owner: str, lease_until: int, columns: Row
) -> Script[Claim | Held | Completed]:
    """Take the lease, or say who has it, or what came of it. ``columns``: cause and now."""
    granted = yield One(statements.CLAIM, (key.subject, key.step, owner, lease_until, *columns))
    if granted:
        [(token, attempt)] = granted
        return Claim(key, token, attempt, owner, rows.to_datetime(lease_until))
    [(holder, held_until, receipt, ids)] = yield One(
        statements.READ_HOLDER, (key.subject, key.step)
    )
    if receipt is None:
        return Held(key, holder, rows.to_datetime(held_until))
    outgoing = yield from _outgoing(ids)
    return Completed(key, rows.to_receipt(receipt), tuple(map(rows.to_outgoing, outgoing)))


def renew(claim: Claim, lease_until: int) -> Script[int]:
    """Lengthen the lease; gives back when it ends."""
    found = yield One(statements.RENEW, (*_fence(claim), lease_until))
    _refuse_stale(claim, found)
    end: int = found[0][0]
    return end


def complete(claim: Claim, columns: Row, outgoing: Sequence[Row]) -> Script[None]:
    """Close the claim with its receipt and save its events. ``columns``: now, receipt, ids."""
    found = yield One(statements.COMPLETE, (*_fence(claim), *columns))
    _refuse_stale(claim, found)
    yield from _add_outgoing(outgoing)


def release(claim: Claim, columns: Row, outgoing: Sequence[Row]) -> Script[None]:
    """Give the claim back. ``columns``: status, now, reason."""
    found = yield One(statements.RELEASE, (*_fence(claim), *columns))
    _refuse_stale(claim, found)
    yield from _add_outgoing(outgoing)


def read(sql: str, *parameters: object) -> Script[Sequence[Row]]:
    """The rows of one statement."""
    return (yield One(sql, parameters))


def take_due(now: int, owner: str, lease_until: int, limit: int) -> Script[tuple[Outgoing, ...]]:
    """Lease what is due; in order of due time, then of saving, then of place in its call."""
    taken = yield One(statements.TAKE_DUE, (now, owner, lease_until, limit))
    in_order = sorted(taken, key=lambda row: (row[4], row[6], row[7], row[0]))
    return tuple(map(rows.to_outgoing, in_order))


def published(ids: Sequence[str], now: int) -> Script[None]:
    """Mark events; in one order for all callers, so that two never wait for each other."""
    yield Many(statements.PUBLISHED, [(event_id, now) for event_id in sorted(set(ids))])


def advance_saga(change: SagaChange) -> Script[bool]:
    """Save state, history and events if the version still stands."""
    moved = yield _save_state(change)
    if not moved:
        return False
    added = yield One(
        statements.ADD_SAGA_STEP,
        (change.saga, change.key, moved[0][0], change.event_id, *change.event_row),
    )
    if not added:
        raise ValueError(
            f"saga {change.saga} {change.key} has seen event {change.event_id}: "
            "ask saga_saw before advance_saga",
        )
    yield from _add_outgoing(change.outgoing)
    return True


def saga_saw(saga: str, key: str, event_id: str) -> Script[tuple[Outgoing, ...] | None]:
    """All events of an earlier handling, published or not."""
    seen = yield One(statements.READ_SAGA_OUTGOING, (saga, key, event_id))
    if not seen:
        return None
    outgoing = yield from _outgoing(seen[0][0])
    return tuple(map(rows.to_outgoing, outgoing))


def _save_state(change: SagaChange) -> One:
    identity = (change.saga, change.key, change.state, change.updated_at)
    if change.expected_version == 0:
        return One(statements.CREATE_SAGA, identity)
    return One(statements.ADVANCE_SAGA, (*identity, change.expected_version))


def _outgoing(ids_json: str) -> Script[Sequence[Row]]:
    """Rows of the outbox in the order of the ids."""
    order = {event_id: place for place, event_id in enumerate(json.loads(ids_json))}
    if not order:
        return ()
    found = yield One(statements.READ_OUTGOING, (ids_json,))
    return sorted(found, key=lambda row: order[row[0]])


def _add_outgoing(outgoing: Sequence[Row]) -> Script[None]:
    if outgoing:
        yield Many(statements.ADD_OUTGOING, outgoing)


def _fence(claim: Claim) -> tuple[str, str, int]:
    return claim.key.subject, claim.key.step, claim.token


def _refuse_stale(claim: Claim, found: Sequence[Row]) -> None:
    if not found:
        raise StaleClaimError(
            f"{claim.key}: token {claim.token} of {claim.owner} was overtaken or is closed",
        )
