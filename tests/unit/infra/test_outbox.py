import asyncio
import contextlib

import pytest

from events.catalogue import IterationFailed
from events.cloudevents import decode, derived_id
from infra import telemetry
from infra.errors import ServiceUnavailableError, TransientError
from infra.outbox import GRACE_SECONDS, LEASE_SECONDS, outgoing, publish, relay, relay_once, stop
from infra.ports import Cause, ClaimKey, Receipt

EVENT = IterationFailed(iteration=4, reason="why")


async def saved(world, *events):
    """Events of a step that was killed before it could publish them."""
    key = ClaimKey("smoke/4", f"step-{events[0].id}")
    cause = Cause("c", "t", world.clock())
    claim = await world.ledger.claim(
        key, cause=cause, owner="w", now=world.clock(), lease_seconds=9
    )
    await world.ledger.complete(claim, Receipt("d"), events, now=world.clock())


def made(world, cause="a cause", **more):
    return outgoing(EVENT, cause=cause, source="test", ports=world.ports, **more)


async def test_an_event_is_made_the_same_whenever_it_is_made(world):
    first = made(world)
    world.clock.advance(100)
    again = made(world)
    assert first.id == again.id == derived_id("a cause", EVENT)
    assert first.data == again.data
    assert decode(first.data, first.attributes, IterationFailed).source == "/nexus/test"
    assert (first.topic, first.ordering_key) == ("iteration-failed", "")
    assert (again.due - world.clock()).total_seconds() == GRACE_SECONDS
    assert (made(world, after_seconds=60).due - world.clock()).total_seconds() == 60


async def test_an_event_carries_the_trace_of_where_it_was_made(world):
    telemetry.configure()
    assert "traceparent" not in made(world).attributes
    with telemetry.span("here"):
        expected = telemetry.traceparent()
        assert made(world).attributes["traceparent"] == expected


async def test_what_cannot_be_published_is_not_marked(world):
    event = made(world)
    await saved(world, event)
    world.publisher.broken = True
    await publish([event], world.ports)
    assert await world.ledger.unpublished("smoke") == 1
    world.publisher.broken = False
    await publish([event], world.ports)
    assert await world.ledger.unpublished("smoke") == 0


async def test_nothing_to_publish_asks_nobody(world):
    world.publisher.broken = True
    await publish([], world.ports_with(ledger=None))


async def test_what_a_relay_could_not_publish_is_taken_again_after_its_lease(world):
    await saved(world, made(world, after_seconds=0))
    world.publisher.broken = True
    assert await relay_once(world.ports) == 1
    world.publisher.broken = False
    assert await relay_once(world.ports) == 0
    world.clock.advance(LEASE_SECONDS)
    assert await relay_once(world.ports) == 1
    assert len(world.publisher.published) == 1


class Hiccups:
    """A ledger whose ``take_due`` fails in each of the given ways before it works."""

    def __init__(self, ledger, *errors):
        self._ledger = ledger
        self._errors = list(errors)

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    async def take_due(self, **kwargs):
        if self._errors:
            raise self._errors.pop(0)
        return await self._ledger.take_due(**kwargs)


async def test_a_relay_outlives_every_error(world):
    ledger = Hiccups(
        world.ledger, TransientError("a"), ServiceUnavailableError("b"), RuntimeError("c")
    )
    await saved(world, made(world, "one"), made(world, "two", after_seconds=600))
    world.clock.advance(600)
    ports = world.ports_with(ledger=ledger)
    relaying = asyncio.create_task(relay(ports))
    await world.publisher.wait_for(2)
    assert not relaying.done()
    await stop(relaying)
    assert relaying.cancelled()
    assert world.sleeper.pauses[:3] == [ports.poll_seconds] * 3


async def test_two_relays_publish_an_event_once(world):
    await saved(world, *(made(world, f"cause {n}") for n in range(50)))
    world.clock.advance(GRACE_SECONDS)
    await asyncio.gather(*(relay_once(world.ports) for _ in range(4)))
    assert len(world.publisher.published) == len(set(world.publisher.ids())) == 50


async def test_stopping_a_relay_that_has_died_says_why():
    async def dies():
        raise RuntimeError("broken")

    task = asyncio.create_task(dies())
    with contextlib.suppress(RuntimeError):
        await asyncio.wait({task})
    with pytest.raises(RuntimeError, match="broken"):
        await stop(task)
