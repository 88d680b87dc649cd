"""Runs sagas: state, outgoing events and the processed event's id are saved together."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import structlog
from pydantic import BaseModel

from events.cloudevents import Envelope
from events.model import Event
from infra.once import Redeliver, Settled, Settlement
from infra.outbox import outgoing, publish
from infra.ports import Outgoing, Ports, SagaStep

log = structlog.get_logger(__name__)

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Timer:
    """An event to itself or another, after a while."""

    event: Event
    after_seconds: float


@dataclass(frozen=True, slots=True)
class Decision(Generic[S]):
    """What a saga makes of an event: its next state, what it asks for, what it waits for.

    ``state`` None means that the saga can't judge the event yet: it comes again later.
    """

    state: S | None
    commands: tuple[Event, ...] = ()
    timers: tuple[Timer, ...] = ()


@dataclass(frozen=True, slots=True)
class Saga(Generic[S]):
    """A saga, with its arrows.

    Attributes:
        name: Names its subscriptions and its states.
        state: The model that its state is saved as.
        consumes: What it listens to.
        emits: Every event that it may emit.
        key: Which saga of this kind an event belongs to; the prefix of all its subjects too.
        decide: Pure: ``(state or None, event, now) -> Decision``.
    """

    name: str
    state: type[S]
    consumes: tuple[type[Event], ...]
    emits: tuple[type[Event], ...]
    key: Callable[[Event], str]
    decide: Callable[[S | None, Event, datetime], Decision[S]]


async def run_saga(saga: Saga[S], envelope: Envelope[Any], ports: Ports) -> Settlement:
    """Let a saga see an event, once; raced by another worker, it looks again."""
    key = saga.key(envelope.event)
    while True:
        seen = await ports.ledger.saga_saw(saga.name, key, envelope.id)
        if seen is not None:
            log.info("already_seen", saga=saga.name, key=key)
            await publish(seen, ports)
            return Settled()
        saved = await _advance(saga, key, envelope, ports)
        match saved:
            case None:
                continue
            case Settled() | Redeliver():
                return saved


async def _advance(
    saga: Saga[S], key: str, envelope: Envelope[Any], ports: Ports
) -> Settlement | None:
    """Decide and save; None when another worker was faster."""
    record = await ports.ledger.saga(saga.name, key)
    state = saga.state.model_validate(record.state) if record else None
    version = record.version if record else 0
    now = ports.clock()
    decision = saga.decide(state, envelope.event, now)
    if decision.state is None:
        log.info("saga_not_ready", saga=saga.name, key=key, event_type=envelope.type)
        return Redeliver(ports.retrying.redeliver_seconds)
    leaving = _leaving(saga, key, decision, ports)
    saved = await ports.ledger.advance_saga(
        saga.name,
        key,
        expected_version=version,
        state=decision.state.model_dump(mode="json"),
        step=_history(version + 1, envelope, decision, now),
        subject=key,
        outgoing=[*leaving, *_timers(saga, key, decision, ports)],
        now=now,
    )
    if not saved:
        return None
    log.info("saga_advanced", saga=saga.name, key=key, version=version + 1)
    await publish(leaving, ports)
    return Settled()


def _leaving(saga: Saga[S], key: str, decision: Decision[S], ports: Ports) -> list[Outgoing]:
    cause = f"saga/{saga.name}/{key}"
    for command in decision.commands:
        if type(command) not in saga.emits:
            raise TypeError(f"saga {saga.name} emits {type(command).__name__} undeclared")
    return [
        outgoing(command, cause=cause, source=saga.name, ports=ports)
        for command in decision.commands
    ]


def _timers(saga: Saga[S], key: str, decision: Decision[S], ports: Ports) -> list[Outgoing]:
    cause = f"saga/{saga.name}/{key}"
    return [
        outgoing(
            timer.event,
            cause=cause,
            source=saga.name,
            ports=ports,
            after_seconds=timer.after_seconds,
        )
        for timer in decision.timers
    ]


def _history(
    version: int, envelope: Envelope[Any], decision: Decision[S], now: datetime
) -> SagaStep:
    return SagaStep(
        version=version,
        event_id=envelope.id,
        event_type=envelope.type,
        at=now,
        event=envelope.event.model_dump(mode="json"),
        decision={
            "commands": [
                {"type": event.type, "about": event.identity} for event in decision.commands
            ],
            "timers": [
                {"type": timer.event.type, "after_seconds": timer.after_seconds}
                for timer in decision.timers
            ],
        },
    )
