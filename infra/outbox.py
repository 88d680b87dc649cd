"""Events on their way out: made in a step, saved with its receipt, published, marked."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from events.cloudevents import derived_id, encode
from events.model import Event
from infra.errors import ServiceUnavailableError, TransientError
from infra.ports import Outgoing, Ports
from infra.telemetry import traceparent

GRACE_SECONDS = 2.0
"""How long the step that saved an event has to publish it before the relay does."""

LEASE_SECONDS = 10.0
BATCH = 500

log = structlog.get_logger(__name__)


def outgoing(
    event: Event, *, cause: str, source: str, ports: Ports, after_seconds: float = GRACE_SECONDS
) -> Outgoing:
    """The wire form of an event that ``cause`` (a claim or a saga) emits.

    Its id follows from the cause, so that the event emitted again is the same event.
    """
    now = ports.clock()
    identity = derived_id(cause, event)
    data, attributes = encode(
        event, id=identity, source=f"/nexus/{source}", time=now, traceparent=traceparent()
    )
    due = now + timedelta(seconds=after_seconds)
    return Outgoing(identity, event.topic(), data, attributes, due)


async def publish(events: Sequence[Outgoing], ports: Ports) -> None:
    """Publish and mark. What can't be published now stays with the relay."""
    if not events:
        return
    confirmed = await ports.publisher.publish(events)
    if len(confirmed) < len(events):
        log.warning("left_to_relay", events=len(events) - len(confirmed))
    await ports.ledger.published(confirmed, now=ports.clock())


async def relay(ports: Ports) -> None:
    """Publish what is due: timers, and the events of steps that were killed before they could.

    Runs until it is cancelled; any number of processes may run one.
    """
    while True:
        try:
            if await relay_once(ports):
                continue
        except (TransientError, ServiceUnavailableError) as error:
            log.info("relay_waits", error=str(error))
        except Exception:
            # It must outlive any single event: every timer of the system depends on it.
            log.exception("relay_raised")
        await ports.sleep(ports.poll_seconds)


async def relay_once(ports: Ports) -> int:
    """Publish one batch of due events; how many there were."""
    due = await ports.ledger.take_due(
        now=ports.clock(), owner=ports.owner, lease_seconds=LEASE_SECONDS, limit=BATCH
    )
    await publish(due, ports)
    return len(due)


async def stop(task: "asyncio.Task[None]") -> None:
    """End a relay."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
