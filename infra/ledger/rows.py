"""Between the port's values and the columns of the ledger's tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.ports import (
    Cause,
    ClaimKey,
    Outgoing,
    Receipt,
    SagaRecord,
    SagaStep,
    StepRecord,
    StepStatus,
)

Row = Sequence[Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(time: datetime) -> int:
    """Microseconds since 1970 UTC. Raises ValueError for a time without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"the time {time.isoformat()} has no zone: pass datetime.now(UTC)")
    return (time - _EPOCH) // _MICROSECOND


def to_datetime(microseconds: int) -> datetime:
    """The time in UTC."""
    return _EPOCH + microseconds * _MICROSECOND


def lease_end(now: datetime, lease_seconds: float) -> int:
    """When a lease taken now runs out, in microseconds. Raises ValueError unless positive."""
    if not lease_seconds > 0:
        raise ValueError(f"lease_seconds is {lease_seconds}: a lease lasts longer than 0 seconds")
    return to_microseconds(now + timedelta(seconds=lease_seconds))


def to_json(value: Mapping[str, Any] | Sequence[str]) -> str:
    """JSON text. Raises ValueError or TypeError for what JSON does not have, such as NaN."""
    document = dict(value) if isinstance(value, Mapping) else list(value)
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def receipt_to_json(receipt: Receipt) -> str:
    """A receipt's JSON text."""
    return to_json(asdict(receipt))


def ids_to_json(outgoing: Iterable[Outgoing]) -> str:
    """The ids as a JSON array, each once, in order."""
    return to_json(list(dict.fromkeys(event.id for event in outgoing)))


def to_outgoing_rows(subject: str, outgoing: Iterable[Outgoing], now: datetime) -> list[Row]:
    """Rows of the outbox, for ``ADD_OUTGOING``.

    They are in the order of their ids, whatever their places: two transactions that save the
    same events then wait for each other in one direction only, and can't deadlock.
    """
    saved_at = to_microseconds(now)
    return [
        (
            event.id,
            subject,
            event.topic,
            event.data,
            to_json(event.attributes),
            to_microseconds(event.due),
            event.ordering_key,
            saved_at,
            place,
        )
        for place, event in sorted(enumerate(outgoing), key=lambda pair: pair[1].id)
    ]


def to_receipt(text: str) -> Receipt:
    """A receipt from its JSON text."""
    return Receipt(**json.loads(text))


def to_outgoing(row: Row) -> Outgoing:
    """An outgoing event from a row of the outbox."""
    event_id, topic, data, attributes, due, ordering_key, *_ = row
    return Outgoing(
        id=event_id,
        topic=topic,
        data=data,
        attributes=json.loads(attributes),
        due=to_datetime(due),
        ordering_key=ordering_key,
    )


def to_step(row: Row) -> StepRecord:
    """A step's record from its row."""
    subject, step, status, owner, attempt, *cause, claimed_at, ended_at, receipt, reason = row
    cause_id, cause_type, cause_time, traceparent = cause
    return StepRecord(
        key=ClaimKey(subject, step),
        status=StepStatus(status),
        owner=owner,
        attempt=attempt,
        cause=Cause(cause_id, cause_type, to_datetime(cause_time), traceparent),
        claimed_at=to_datetime(claimed_at),
        ended_at=None if ended_at is None else to_datetime(ended_at),
        receipt=None if receipt is None else to_receipt(receipt),
        reason=reason,
    )


def to_saga(row: Row) -> SagaRecord:
    """A saga's record from its row."""
    saga, key, version, state, updated_at = row
    return SagaRecord(saga, key, version, json.loads(state), to_datetime(updated_at))


def to_saga_step(row: Row) -> SagaStep:
    """A line of a saga's history from its row."""
    version, event_id, event_type, at, event, decision = row
    return SagaStep(
        version=version,
        event_id=event_id,
        event_type=event_type,
        at=to_datetime(at),
        event=json.loads(event),
        decision=json.loads(decision),
    )
