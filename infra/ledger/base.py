"""The ledger over any SQL database: an adapter adds only how a script is run."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from infra.ledger import rows, scripts, statements
from infra.ledger.scripts import Script
from infra.ports import (
    Cause,
    Claim,
    ClaimKey,
    Completed,
    Held,
    Outgoing,
    Receipt,
    SagaRecord,
    SagaStep,
    StepRecord,
    StepStatus,
)

T = TypeVar("T")


class SqlLedger(ABC):
    """The ``Ledger`` port, but for opening, closing and running scripts.

    Values are turned into columns before a script starts: a receipt that JSON can't hold is the
    caller's ValueError or TypeError, and no transaction sees it.
    """

    @abstractmethod
    async def open(self) -> None:
        """Create what is missing. Raises ServiceUnavailableError, SettingsError."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way, then let go of files and connections."""

    @abstractmethod
    async def _write(self, script: Callable[[], Script[T]]) -> T:
        """Run a script in one transaction. It may be started anew after a conflict."""

    @abstractmethod
    async def _read(self, script: Callable[[], Script[T]]) -> T:
        """Run a script that writes nothing, on one view of the data."""

    async def claim(
        self, key: ClaimKey, *, cause: Cause, owner: str, now: datetime, lease_seconds: float
    ) -> Claim | Held | Completed:
        """Take the lease on a step if it is free, released, failed or run out."""
        columns = (
            cause.id,
            cause.type,
            rows.to_microseconds(cause.time),
            cause.traceparent,
            rows.to_microseconds(now),
        )
        lease_until = rows.lease_end(now, lease_seconds)
        return await self._write(lambda: scripts.claim(key, owner, lease_until, columns))

    async def renew(self, claim: Claim, *, now: datetime, lease_seconds: float) -> Claim:
        """Lengthen a lease, never shorten it. Raises StaleClaimError."""
        asked = rows.lease_end(now, lease_seconds)
        lease_until = await self._write(lambda: scripts.renew(claim, asked))
        return replace(claim, lease_until=rows.to_datetime(lease_until))

    async def complete(
        self, claim: Claim, receipt: Receipt, outgoing: Sequence[Outgoing], *, now: datetime
    ) -> None:
        """Save receipt and outgoing events and close the claim. Raises StaleClaimError."""
        columns = (
            rows.to_microseconds(now),
            rows.receipt_to_json(receipt),
            rows.ids_to_json(outgoing),
        )
        events = rows.to_outgoing_rows(claim.key.subject, outgoing, now)
        await self._write(lambda: scripts.complete(claim, columns, events))

    async def release(
        self,
        claim: Claim,
        *,
        now: datetime,
        reason: str,
        failed: bool = False,
        outgoing: Sequence[Outgoing] = (),
    ) -> None:
        """Give a lease back undone. Raises StaleClaimError."""
        status = StepStatus.FAILED if failed else StepStatus.RELEASED
        columns = (str(status), rows.to_microseconds(now), reason)
        events = rows.to_outgoing_rows(claim.key.subject, outgoing, now)
        await self._write(lambda: scripts.release(claim, columns, events))

    async def step(self, key: ClaimKey) -> StepRecord | None:
        """One step's record."""
        found = await self._read(lambda: scripts.read(statements.READ_STEP, key.subject, key.step))
        return rows.to_step(found[0]) if found else None

    async def steps(self, subject_prefix: str) -> tuple[StepRecord, ...]:
        """All steps of the prefix and below it, by the time of their newest claim."""
        found = await self._read(lambda: scripts.read(statements.READ_STEPS, subject_prefix))
        return tuple(map(rows.to_step, found))

    async def take_due(
        self, *, now: datetime, owner: str, lease_seconds: float, limit: int
    ) -> tuple[Outgoing, ...]:
        """Lease outgoing events that are due, unpublished, and leased to nobody, oldest first."""
        due, lease_until = rows.to_microseconds(now), rows.lease_end(now, lease_seconds)
        return await self._write(lambda: scripts.take_due(due, owner, lease_until, limit))

    async def published(self, ids: Sequence[str], *, now: datetime) -> None:
        """Mark outgoing events as published; unknown or marked ids are no error."""
        at = rows.to_microseconds(now)
        if ids:
            await self._write(lambda: scripts.published(ids, at))

    async def unpublished(self, subject_prefix: str) -> int:
        """How many outgoing events of these subjects are not published yet, due or not."""
        found = await self._read(lambda: scripts.read(statements.COUNT_UNPUBLISHED, subject_prefix))
        count: int = found[0][0]
        return count

    async def saga(self, saga: str, key: str) -> SagaRecord | None:
        """A saga's state."""
        found = await self._read(lambda: scripts.read(statements.READ_SAGA, saga, key))
        return rows.to_saga(found[0]) if found else None

    async def sagas(self, saga: str | None = None) -> tuple[SagaRecord, ...]:
        """All sagas, by last update, the newest first."""
        if saga is None:
            found = await self._read(lambda: scripts.read(statements.READ_SAGAS))
        else:
            found = await self._read(lambda: scripts.read(statements.READ_SAGAS_NAMED, saga))
        return tuple(map(rows.to_saga, found))

    async def saga_history(self, saga: str, key: str) -> tuple[SagaStep, ...]:
        """What the saga saw and decided, oldest first."""
        found = await self._read(lambda: scripts.read(statements.READ_SAGA_HISTORY, saga, key))
        return tuple(map(rows.to_saga_step, found))

    async def advance_saga(
        self,
        saga: str,
        key: str,
        *,
        expected_version: int,
        state: Mapping[str, Any],
        step: SagaStep,
        subject: str,
        outgoing: Sequence[Outgoing],
        now: datetime,
    ) -> bool:
        """Save state, history and outgoing events together; False when the version moved on.

        Raises ValueError for an event that the saga has seen, or when ``step.version`` does not
        follow ``expected_version``.
        """
        if step.version != expected_version + 1:
            raise ValueError(
                f"step.version is {step.version}: after expected_version {expected_version} "
                f"it must be {expected_version + 1}",
            )
        change = scripts.SagaChange(
            saga=saga,
            key=key,
            expected_version=expected_version,
            state=rows.to_json(state),
            updated_at=rows.to_microseconds(now),
            event_id=step.event_id,
            event_row=(
                step.event_type,
                rows.to_microseconds(step.at),
                rows.to_json(step.event),
                rows.to_json(step.decision),
                rows.ids_to_json(outgoing),
            ),
            outgoing=rows.to_outgoing_rows(subject, outgoing, now),
        )
        return await self._write(lambda: scripts.advance_saga(change))

    async def saga_saw(self, saga: str, key: str, event_id: str) -> tuple[Outgoing, ...] | None:
        """All events of an earlier handling of this event, published or not; None if it is new."""
        return await self._read(lambda: scripts.saga_saw(saga, key, event_id))
