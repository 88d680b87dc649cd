"""Every effect once: claim, do, save receipt and events together, publish, then ack.

Killed between any two of these, the redelivery of the message ends in the same state.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from events.cloudevents import Envelope
from events.model import Event
from infra.errors import (
    NexusError,
    ServiceUnavailableError,
    StaleClaimError,
    TerminalError,
    TransientError,
)
from infra.outbox import outgoing, publish
from infra.outcome import Ack, Outcome, Retry, Terminal, Wait
from infra.ports import Cause, Claim, ClaimKey, Completed, Held, Outgoing, Ports

log = structlog.get_logger(__name__)

E = TypeVar("E")


class HasSubject(Protocol):
    """A message that is about something."""

    @property
    def subject(self) -> str:
        """What it is about."""


@dataclass(frozen=True, slots=True)
class Step:
    """A handler of the flow, with its arrows.

    Attributes:
        handler: Names the subscription, and the step in claims and logs.
        consumes: What may come in; each on a topic of its own.
        emits: Every event that may go out.
        run: ``(event, claim, ports) -> Outcome``.
        lost: The event that tells the saga of a terminal end, if there is a saga to tell.
        workers: How many of it may run at a time in one process.
        max_lease_seconds: How long a message may be worked on at most.
    """

    handler: str
    consumes: tuple[type[Any], ...]
    emits: tuple[type[Event], ...]
    run: Callable[[Any, Claim, Ports], Awaitable[Outcome]]
    lost: Callable[[Any, str], Event] | None = None
    workers: int = 8
    max_lease_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Settled:
    """Acknowledge the message."""


@dataclass(frozen=True, slots=True)
class Redeliver:
    """Give the message back, for a later time."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class Dead:
    """The message goes to its dead-letter topic."""

    reason: str


Settlement = Settled | Redeliver | Dead


async def run_once(step: Step, envelope: Envelope[Any], ports: Ports) -> Settlement:
    """Do a step's effect unless it is done or being done."""
    key = ClaimKey(envelope.event.subject, step.handler)
    with structlog.contextvars.bound_contextvars(claim=str(key)):
        return await _claimed(step, key, envelope, ports)


async def _claimed(step: Step, key: ClaimKey, envelope: Envelope[Any], ports: Ports) -> Settlement:
    cause = Cause(envelope.id, envelope.type, envelope.time, envelope.traceparent)
    taken = await ports.ledger.claim(
        key,
        cause=cause,
        owner=ports.owner,
        now=ports.clock(),
        lease_seconds=ports.retrying.lease_seconds,
    )
    match taken:
        case Completed():
            log.info("already_done")
            await publish(_onward(step, taken.outgoing), ports)
            return Settled()
        case Held():
            log.info("held_elsewhere", owner=taken.owner)
            return Redeliver(_until_free(taken, ports))
        case Claim():
            return await _work(step, envelope, taken, ports)


def _onward(step: Step, events: tuple[Outgoing, ...]) -> tuple[Outgoing, ...]:
    """Without the step's own timers: they would come back to it for ever."""
    own = {consumed.topic() for consumed in step.consumes}
    return tuple(event for event in events if event.topic not in own)


def _until_free(held: Held, ports: Ports) -> float:
    remaining = (held.lease_until - ports.clock()).total_seconds()
    return max(0.1, min(remaining, ports.retrying.redeliver_seconds))


async def _work(step: Step, envelope: Envelope[Any], claim: Claim, ports: Ports) -> Settlement:
    try:
        outcome = await _leased(_tries(step, envelope.event, claim, ports), claim, ports)
        return await _close(step, envelope.event, claim, outcome, ports)
    except StaleClaimError:
        log.warning("claim_lost", token=claim.token)
        return Redeliver(ports.retrying.redeliver_seconds)
    except (Exception, asyncio.CancelledError) as error:
        stopped = isinstance(error, asyncio.CancelledError)
        reason = "stopped" if stopped else f"{type(error).__name__}: {error}"
        with suppress(NexusError):
            await ports.ledger.release(claim, now=ports.clock(), reason=reason)
        raise


async def _leased(work: Awaitable[Outcome], claim: Claim, ports: Ports) -> Outcome:
    """Run the work and keep its lease alive; the work is cancelled when the lease is lost."""
    doing = asyncio.ensure_future(work)
    keeping = asyncio.ensure_future(_keep(claim, ports))
    try:
        await asyncio.wait({doing, keeping}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            keeping.result()
        return await doing
    finally:
        for task in (doing, keeping):
            task.cancel()
        await asyncio.gather(doing, keeping, return_exceptions=True)


async def _keep(claim: Claim, ports: Ports) -> None:
    lease_seconds = ports.retrying.lease_seconds
    while True:
        await ports.sleep(lease_seconds / 3)
        with suppress(TransientError, ServiceUnavailableError):
            await ports.ledger.renew(claim, now=ports.clock(), lease_seconds=lease_seconds)


async def _tries(step: Step, event: Any, claim: Claim, ports: Ports) -> Outcome:  # noqa: ANN401 - any event
    """Try with full jitter between tries, until an outcome other than Retry or the last try."""
    reason = ""
    for attempt in range(1, ports.retrying.tries + 1):
        outcome = await _try(step, event, claim, ports)
        if not isinstance(outcome, Retry):
            return outcome
        reason = outcome.reason
        log.warning("try_failed", attempt=attempt, reason=reason)
        if attempt < ports.retrying.tries:
            await ports.sleep(_pause_seconds(attempt, outcome, ports))
    return Terminal(f"{reason} (gave up after {ports.retrying.tries} tries)")


def _pause_seconds(attempt: int, outcome: Retry, ports: Ports) -> float:
    ceiling = min(ports.retrying.cap_seconds, ports.retrying.base_seconds * 2**attempt)
    return outcome.after_seconds + ports.random.uniform(0, ceiling)


async def _try(step: Step, event: Any, claim: Claim, ports: Ports) -> Outcome:  # noqa: ANN401 - any event
    try:
        return _declared(step, await step.run(event, claim, ports))
    except TransientError as error:
        return Retry(str(error), error.retry_after_seconds)
    except ServiceUnavailableError as error:
        return Retry(str(error), 1.0)
    except TerminalError as error:
        return Terminal(f"{type(error).__name__}: {error}")
    except StaleClaimError:
        raise
    except Exception as error:
        log.exception("handler_raised")
        return Retry(f"{type(error).__name__}: {error}")


def _declared(step: Step, outcome: Outcome) -> Outcome:
    """The outcome, unless it would send what the step's arrows do not show."""
    match outcome:
        case Ack(events=events):
            sent = {type(event) for event in events}
        case Wait(event=event):
            sent = {type(event)}
        case _:
            return outcome
    unknown = ", ".join(sorted(kind.__name__ for kind in sent - set(step.emits)))
    if unknown:
        return Terminal(f"{step.handler} emits {unknown}, which it does not declare")
    return outcome


async def _close(
    step: Step,
    event: Any,  # noqa: ANN401 - any event
    claim: Claim,
    outcome: Outcome,
    ports: Ports,
) -> Settlement:
    now = ports.clock()
    match outcome:
        case Ack(receipt, events):
            leaving = [_out(step, emitted, claim, ports) for emitted in events]
            await ports.ledger.complete(claim, receipt, leaving, now=now)
            log.info("step_completed", digest=receipt.digest)
            await publish(leaving, ports)
            return Settled()
        case Wait(reason, timer, after_seconds):
            later = _out(step, timer, claim, ports, after_seconds=after_seconds)
            await ports.ledger.release(claim, now=now, reason=reason, outgoing=[later])
            return Settled()
        case Terminal(reason) | Retry(reason):
            told = [step.lost(event, reason)] if step.lost else []
            leaving = [_out(step, emitted, claim, ports) for emitted in told]
            await ports.ledger.release(claim, now=now, reason=reason, failed=True, outgoing=leaving)
            log.error("step_failed", reason=reason)
            await publish(leaving, ports)
            return Dead(reason)


def _out(
    step: Step, event: Event, claim: Claim, ports: Ports, *, after_seconds: float | None = None
) -> Outgoing:
    cause, source = str(claim.key), step.handler
    if after_seconds is None:
        return outgoing(event, cause=cause, source=source, ports=ports)
    return outgoing(event, cause=cause, source=source, ports=ports, after_seconds=after_seconds)
