"""How a step ends, as a type: ``Ack | Wait | Retry | Terminal``."""

from collections.abc import Sequence
from dataclasses import dataclass

from events.model import Event
from infra.ports import Receipt


@dataclass(frozen=True, slots=True)
class Ack:
    """The effect stands: keep the receipt, publish the events."""

    receipt: Receipt
    events: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet: publish ``event`` after ``after_seconds``, by a durable timer."""

    reason: str
    event: Event
    after_seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """The effect may come about at another try."""

    reason: str
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Terminal:
    """No try will help: dead letter, and the saga is told."""

    reason: str


Outcome = Ack | Wait | Retry | Terminal
