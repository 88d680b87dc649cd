"""Runs sagas: state, outgoing events and the processed event's id are saved together."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from pydantic import BaseModel

from events.cloudevents import Envelope
from events.model import Event
from infra.once import Redeliver, Settled, Settlement
from infra.outbox import GRACE_SECONDS, outgoing, publish
from infra.ports import Outgoing, Ports, SagaRecord, SagaStep

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
    """Let a saga see an event, once; raced by another worker, it looks again.

    An event that it saw before makes it say again what it said then, so that an event published
    again heals a bus that has lost the messages that followed.
    """
    key = saga.key(envelope.event)
    with structlog.contextvars.bound_contextvars(saga=saga.name, key=key):
        while True:
            # The state is read first: whoever lets the saga see this event after we asked
            # whether it has, moves the version on, and our own attempt to save is refused.
            record = await ports.ledger.saga(saga.name, key)
            seen = await ports.ledger.saga_saw(saga.name, key, envelope.id)
            if seen is not None:
                log.info("already_seen")
                await publish(_again(saga, seen, ports), ports)
                return Settled()
            settlement = await _advance(saga, key, record, envelope, ports)
            if settlement is not None:
                return settlement


def _again(saga: Saga[S], said: Iterable[Outgoing], ports: Ports) -> tuple[Outgoing, ...]:
    """Without timers: those to come are the relay's; its own would come back to it for ever."""
    own = {consumed.topic() for consumed in saga.consumes}
    soon = ports.clock() + timedelta(seconds=GRACE_SECONDS)
    return tuple(event for event in said if event.topic not in own and event.due <= soon)


async def _advance(
    saga: Saga[S], key: str, record: SagaRecord | None, envelope: Envelope[Any], ports: Ports
) -> Settlement | None:
    """Decide and save; None when another worker was faster."""
    state = saga.state.model_validate(record.state) if record else None
    version = record.version if record else 0
    now = ports.clock()
    decision = saga.decide(state, envelope.event, now)
    if decision.state is None:
        log.info("saga_not_ready", event_type=envelope.type)
        return Redeliver(ports.retrying.redeliver_seconds)
    leaving, timers = _outgoing(saga, key, decision, ports)
    saved = await ports.ledger.advance_saga(
        saga.name,
        key,
        expected_version=version,
        state=decision.state.model_dump(mode="json"),
        step=_history(version + 1, envelope, decision, now),
        subject=key,
        outgoing=[*leaving, *timers],
        now=now,
    )
    if not saved:
        return None
    log.info("saga_advanced", version=version + 1)
    await publish(leaving, ports)
    return Settled()


def _outgoing(
    saga: Saga[S], key: str, decision: Decision[S], ports: Ports
) -> tuple[list[Outgoing], list[Outgoing]]:
    """What is to be published now, and what later."""
    for event in (*decision.commands, *(timer.event for timer in decision.timers)):
        if type(event) not in saga.emits:
            raise TypeError(f"saga {saga.name} emits {type(event).__name__} undeclared")
    wired = partial(outgoing, cause=f"saga/{saga.name}/{key}", source=saga.name, ports=ports)
    later = [wired(timer.event, after_seconds=timer.after_seconds) for timer in decision.timers]
    return [wired(command) for command in decision.commands], later


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
