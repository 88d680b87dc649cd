"""Ledgers that watch, and ledgers that are broken on purpose."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from infra.ports import (
    Cause,
    Claim,
    ClaimKey,
    Completed,
    Held,
    Ledger,
    Outgoing,
    Receipt,
)


class _Through:
    """Everything that a subclass does not change goes to the real ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a method of the ledger
        return getattr(self._ledger, name)


@dataclass
class Seen:
    """Receipts that deliveries of a step ended with, one for each delivery that ended well."""

    receipts: dict[ClaimKey, list[Receipt]] = field(default_factory=dict)

    def add(self, key: ClaimKey, receipt: Receipt) -> None:
        """Remember a delivery's receipt."""
        self.receipts.setdefault(key, []).append(receipt)

    def of_step(self, step: str) -> list[Receipt]:
        """All receipts of a step, also where a mutant gave it other names."""
        return [
            receipt
            for key, receipts in self.receipts.items()
            if key.step.partition("-")[0] == step
            for receipt in receipts
        ]

    @property
    def deliveries(self) -> int:
        """How many deliveries ended well."""
        return sum(len(receipts) for receipts in self.receipts.values())


class WatchedLedger(_Through):
    """Remembers with which receipt each delivery ended."""

    def __init__(self, ledger: Ledger, seen: Seen) -> None:
        super().__init__(ledger)
        self._seen = seen

    async def claim(
        self, key: ClaimKey, *, cause: Cause, owner: str, now: datetime, lease_seconds: float
    ) -> Claim | Held | Completed:
        """See ``Ledger``."""
        taken = await self._ledger.claim(
            key, cause=cause, owner=owner, now=now, lease_seconds=lease_seconds
        )
        if isinstance(taken, Completed):
            self._seen.add(key, taken.receipt)
        return taken

    async def complete(
        self, claim: Claim, receipt: Receipt, outgoing: Sequence[Outgoing], *, now: datetime
    ) -> None:
        """See ``Ledger``."""
        await self._ledger.complete(claim, receipt, outgoing, now=now)
        self._seen.add(claim.key, receipt)


class NoClaimLedger(_Through):
    """The mutant ``no-claim``: each delivery claims a key of its own, so nothing is ever held."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._deliveries = count(1)

    async def claim(
        self, key: ClaimKey, *, cause: Cause, owner: str, now: datetime, lease_seconds: float
    ) -> Claim | Held | Completed:
        """A claim for everybody."""
        own = ClaimKey(key.subject, f"{key.step}-{next(self._deliveries)}")
        return await self._ledger.claim(
            own, cause=cause, owner=owner, now=now, lease_seconds=lease_seconds
        )
