import asyncio
from datetime import timedelta

import pytest

from events.catalogue import (
    BatchPollRequested,
    IterationFailed,
    IterationStarted,
    ShardFailed,
    ShardMerged,
    ShardRequested,
    ShardSubmitted,
)
from events.model import Corpus, Family, Frozen, Parameters, SimulatorEvaluator
from infra.errors import TransientError
from infra.once import Redeliver, Settled
from infra.outbox import GRACE_SECONDS, relay_once
from infra.ports import SagaStep
from sagas.engine import Decision, Saga, Timer, run_saga
from sagas.iteration import ITERATION

KEY = "smoke/4"
DIGEST = "sha256:" + "0" * 64
FAMILY = Family(family="one", items=("a",))


def started(shards=6):
    parameters = Parameters(
        profile="smoke",
        corpus=Corpus(personas=60),
        shards=shards,
        families=(FAMILY,),
        evaluator=SimulatorEvaluator(seed=1),
    )
    return IterationStarted(iteration=4, parameters=parameters)


def merged(index):
    return ShardMerged(iteration=4, shard_index=index, rows=1, digest=DIGEST)


def see(world, event, event_id, ports=None):
    return run_saga(ITERATION, world.envelope(event, event_id), ports or world.ports)


async def test_state_history_and_events_are_saved_together(world):
    assert await see(world, started(2), "start") == Settled()
    record = await world.ledger.saga("iteration", KEY)
    assert (record.version, record.state["phase"]) == (1, "grading")
    [line] = await world.ledger.saga_history("iteration", KEY)
    assert (line.event_id, line.event_type) == ("start", "nexus.iteration.started.v1")
    assert line.event == started(2).model_dump(mode="json")
    requested = [
        {"type": "nexus.shard.requested.v1", "about": f"smoke/4/shard/{n}"} for n in (0, 1)
    ]
    assert line.decision == {"commands": requested, "timers": []}
    assert world.publisher.topics() == ["shard-requested"] * 2
    assert await world.ledger.unpublished(KEY) == 0


async def test_an_event_that_it_is_not_ready_for_comes_again(world):
    assert await see(world, merged(0), "m") == Redeliver(2.0)
    assert await world.ledger.saga("iteration", KEY) is None
    await see(world, started(2), "start")
    assert await see(world, merged(0), "m") == Settled()
    assert (await world.ledger.saga("iteration", KEY)).state["merged"] == [0]


async def test_a_redelivered_event_says_again_what_followed_published_or_not(world):
    """That is how starting an iteration again heals a bus that lost its messages."""
    await see(world, started(3), "start")
    first = list(world.publisher.published)
    world.publisher.published.clear()
    world.clock.advance(3600)
    assert await see(world, started(3), "start") == Settled()
    assert world.publisher.published == first
    assert (await world.ledger.saga("iteration", KEY)).version == 1


async def test_what_could_not_be_published_is_left_to_the_relay(world):
    world.publisher.broken = True
    assert await see(world, started(3), "start") == Settled()
    assert await world.ledger.unpublished(KEY) == 3
    world.publisher.broken = False
    assert await relay_once(world.ports) == 0
    world.clock.advance(GRACE_SECONDS)
    assert await relay_once(world.ports) == 3
    assert world.publisher.topics() == ["shard-requested"] * 3
    assert await relay_once(world.ports) == 0


async def test_raced_by_many_workers_it_sees_every_event_once(world):
    await see(world, started(6), "start")
    deliveries = [see(world, merged(n % 6), f"m-{n % 6}") for n in range(30)]
    assert await asyncio.gather(*deliveries) == [Settled()] * 30
    history = await world.ledger.saga_history("iteration", KEY)
    assert [line.version for line in history] == list(range(1, 8))
    assert sorted(line.event_id for line in history) == sorted(
        ["start", *(f"m-{n}" for n in range(6))]
    )
    state = (await world.ledger.saga("iteration", KEY)).state
    assert (sorted(state["merged"]), state["phase"]) == ([0, 1, 2, 3, 4, 5], "training")
    assert len(set(world.publisher.ids("training-requested"))) == 1


class RacedLedger:
    """Lets another worker handle the same event between two of this one's calls."""

    def __init__(self, ledger, call, other):
        self._ledger = ledger
        self._call = call
        self._other = other

    def __getattr__(self, name):
        method = getattr(self._ledger, name)
        if name != self._call:
            return method

        async def raced(*args, **kwargs):
            other, self._other = self._other, None
            if other is not None:
                await other()
            return await method(*args, **kwargs)

        return raced


@pytest.mark.parametrize("call", ["saga", "saga_saw", "advance_saga"])
async def test_an_event_handled_by_another_meanwhile_is_settled(world, call):
    async def other():
        await see(world, started(2), "start")

    ports = world.ports_with(ledger=RacedLedger(world.ledger, call, other))
    assert await see(world, started(2), "start", ports) == Settled()
    assert (await world.ledger.saga("iteration", KEY)).version == 1
    assert len(set(world.publisher.ids())) == 2


@pytest.mark.parametrize("call", ["saga", "saga_saw", "advance_saga"])
async def test_a_state_that_moved_on_meanwhile_is_looked_at_again(world, call):
    await see(world, started(2), "start")

    async def other():
        await see(world, merged(1), "m-1")

    ports = world.ports_with(ledger=RacedLedger(world.ledger, call, other))
    assert await see(world, merged(0), "m-0", ports) == Settled()
    state = (await world.ledger.saga("iteration", KEY)).state
    assert (sorted(state["merged"]), state["phase"]) == ([0, 1], "training")
    assert len(world.publisher.ids("training-requested")) == 1


async def test_a_ledger_that_does_not_answer_leaves_the_event_to_the_bus(world):
    async def away():
        raise TransientError("the ledger is away")

    ports = world.ports_with(ledger=RacedLedger(world.ledger, "advance_saga", away))
    with pytest.raises(TransientError, match="away"):
        await see(world, started(2), "start", ports)
    assert await see(world, started(2), "start") == Settled()
    assert (await world.ledger.saga("iteration", KEY)).version == 1


# --- timers --------------------------------------------------------------------------------


class Ticks(Frozen):
    """How often the watch has ticked."""

    seen: int = 0


def submitted():
    return ShardSubmitted(
        iteration=4, shard_index=0, job="j", requests_uri="u", n_requests=1, families=(FAMILY,)
    )


def tick(number):
    return BatchPollRequested(iteration=4, shard_index=0, poll=number, submitted=submitted())


def watch(state, event, now):  # noqa: ARG001 - decide's signature
    seen = (state.seen if state else 0) + 1
    gone = ShardFailed(iteration=4, shard_index=0, step="watch", reason="slow")
    tell = IterationFailed(iteration=4, reason="slow")
    return Decision(Ticks(seen=seen), (tell,), (Timer(tick(seen), 60.0), Timer(gone, 600.0)))


WATCH = Saga(
    name="watch",
    state=Ticks,
    consumes=(ShardSubmitted, BatchPollRequested),
    emits=(IterationFailed, BatchPollRequested, ShardFailed),
    key=lambda event: f"smoke/{event.iteration}",
    decide=watch,
)


async def test_a_timer_comes_at_its_time(world):
    await run_saga(WATCH, world.envelope(submitted()), world.ports)
    assert world.publisher.topics() == ["iteration-failed"]
    for seconds, topics in ((59.9, []), (0.1, ["batch-poll-requested"]), (540, ["shard-failed"])):
        world.publisher.published.clear()
        world.clock.advance(seconds)
        await relay_once(world.ports)
        assert world.publisher.topics() == topics


@pytest.mark.parametrize("later_seconds", [0, 3600])
async def test_a_redelivery_says_no_timer_of_its_own_again(world, later_seconds):
    """It would come back, be seen before, and be said again, for ever."""
    await run_saga(WATCH, world.envelope(submitted()), world.ports)
    world.clock.advance(later_seconds)
    await relay_once(world.ports)
    world.publisher.published.clear()
    await run_saga(WATCH, world.envelope(submitted()), world.ports)
    again = ["iteration-failed", "shard-failed"] if later_seconds else ["iteration-failed"]
    assert world.publisher.topics() == again


async def test_an_undeclared_event_is_refused_and_nothing_is_saved(world):
    closed = Saga(**{**vars_of(WATCH), "emits": (IterationFailed, BatchPollRequested)})
    with pytest.raises(TypeError, match="saga watch emits ShardFailed undeclared"):
        await run_saga(closed, world.envelope(submitted()), world.ports)
    closed = Saga(**{**vars_of(ITERATION), "emits": ()})
    with pytest.raises(TypeError, match="saga iteration emits ShardRequested undeclared"):
        await run_saga(closed, world.envelope(started(1)), world.ports)
    assert await world.ledger.sagas() == ()
    assert world.publisher.published == []


def vars_of(saga):
    return {name: getattr(saga, name) for name in saga.__slots__}


async def test_a_saga_goes_on_from_its_saved_state(world):
    await see(world, started(2), "start")
    again = world.ports_with(owner="worker-2")
    await see(world, merged(0), "m-0", again)
    world.clock.advance(60)
    await see(world, merged(1), "m-1", again)
    record = await world.ledger.saga("iteration", KEY)
    assert record.updated_at == world.clock.now
    assert record.state["phase"] == "training"
    history = await world.ledger.saga_history("iteration", KEY)
    assert all(isinstance(line, SagaStep) for line in history)
    assert history[-1].at - history[0].at == timedelta(seconds=60)
    assert {event.topic for event in world.publisher.published} == {
        ShardRequested.topic(),
        "training-requested",
    }
