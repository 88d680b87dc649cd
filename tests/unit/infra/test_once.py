import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from events.catalogue import (
    BatchCompleted,
    BatchPollRequested,
    ShardFailed,
    ShardMerged,
    ShardSubmitted,
)
from events.cloudevents import decode, derived_id
from events.model import Family
from infra.errors import (
    BatchJobError,
    ServiceUnavailableError,
    StaleClaimError,
    TerminalError,
    TransientError,
)
from infra.once import Dead, Redeliver, Settled, Step, run_once
from infra.outbox import GRACE_SECONDS, relay_once
from infra.outcome import Ack, Retry, Terminal, Wait
from infra.ports import Claim, ClaimKey, Completed, Receipt, StepStatus
from tests.support.world import RETRYING

KEY = ClaimKey("smoke/4/shard/2", "merge")
RECEIPT = Receipt("sha256:" + "1" * 64, counts={"rows": 3})
FAMILY = Family(family="one", items=("a",))
COMPLETED = BatchCompleted(
    iteration=4,
    shard_index=2,
    job="j",
    requests_uri="r",
    output_uri="u",
    n_requests=3,
    families=(FAMILY,),
)
MERGED = ShardMerged(iteration=4, shard_index=2, rows=3, digest=RECEIPT.digest)
MERGED_ID = derived_id(str(KEY), MERGED)
SUBMITTED = ShardSubmitted(
    iteration=4, shard_index=2, job="j", requests_uri="r", n_requests=3, families=(FAMILY,)
)
POLL = BatchPollRequested(iteration=4, shard_index=2, poll=1, submitted=SUBMITTED)


def lost(event, reason):
    return ShardFailed(iteration=4, shard_index=event.shard_index, step="merge", reason=reason)


def step(run, **changes):
    known = {
        "handler": "merge",
        "consumes": (BatchCompleted, BatchPollRequested),
        "emits": (ShardMerged, ShardFailed, BatchPollRequested),
        "run": run,
        "lost": lost,
    }
    return Step(**{**known, **changes})


class Effect:
    """A handler that ends in the given ways, one after the other, the last for good."""

    def __init__(self, *ends):
        self.ends = list(ends)
        self.tries = 0

    async def __call__(self, *_):
        self.tries += 1
        await asyncio.sleep(0)
        end = self.ends[min(self.tries, len(self.ends)) - 1]
        if isinstance(end, BaseException):
            raise end
        return end


DONE = Ack(RECEIPT, [MERGED])


def handle(world, run, ports=None, event_id="event-1", **changes):
    return run_once(step(run, **changes), world.envelope(COMPLETED, event_id), ports or world.ports)


# --- done once -----------------------------------------------------------------------------


async def test_receipt_and_events_are_kept_and_published(world):
    assert await handle(world, Effect(DONE)) == Settled()
    record = await world.ledger.step(KEY)
    assert (record.status, record.receipt) == (StepStatus.COMPLETED, RECEIPT)
    assert (record.cause.id, record.cause.type) == ("event-1", BatchCompleted.type)
    assert record.owner == "worker-1"
    [sent] = world.publisher.published
    assert (sent.id, sent.topic) == (MERGED_ID, "shard-merged")
    envelope = decode(sent.data, sent.attributes, ShardMerged)
    assert (envelope.event, envelope.id, envelope.source) == (MERGED, MERGED_ID, "/nexus/merge")
    assert await world.ledger.unpublished("smoke") == 0


async def test_of_many_deliveries_at_once_one_does_the_effect(world):
    going, go = asyncio.Event(), asyncio.Event()
    tries = []

    async def run(_, claim, *__):
        tries.append(claim)
        going.set()
        await go.wait()
        return DONE

    first = asyncio.create_task(handle(world, run))
    await going.wait()
    others = await asyncio.gather(*(handle(world, run, event_id=f"e-{n}") for n in range(5)))
    assert others == [Redeliver(RETRYING.redeliver_seconds)] * 5
    go.set()
    assert await first == Settled()
    assert await handle(world, run, event_id="e-6") == Settled()
    assert len(tries) == 1
    assert world.publisher.ids() == [MERGED_ID] * 2


async def test_a_delivery_that_finds_a_held_claim_comes_back_when_it_is_free(world):
    claim = await world.ledger.claim(
        KEY, cause=cause(world), owner="w", now=world.clock(), lease_seconds=9
    )
    for seconds, pause in ((0, 2.0), (7.5, 1.5), (1.45, 0.1)):
        world.clock.advance(seconds)
        assert await handle(world, Effect(DONE)) == Redeliver(pytest.approx(pause))
    world.clock.advance(0.05)
    assert await handle(world, Effect(DONE)) == Settled()
    assert (await world.ledger.step(KEY)).attempt == claim.attempt + 1


def cause(world):
    from infra.ports import Cause

    return Cause("c", "t", world.clock())


async def test_a_redelivery_publishes_again_what_was_published(world):
    effect = Effect(DONE)
    await handle(world, effect)
    world.clock.advance(1000)
    assert await handle(world, effect, event_id="another") == Settled()
    assert effect.tries == 1
    first, again = world.publisher.published
    assert first == again


async def test_a_redelivery_says_no_event_that_the_step_itself_consumes(world):
    """It would come back, find the step done, and be said again, for ever."""
    await handle(world, Effect(Ack(RECEIPT, [MERGED, POLL])))
    world.publisher.published.clear()
    await handle(world, Effect(DONE))
    assert world.publisher.topics() == ["shard-merged"]


async def test_steps_of_one_subject_are_done_apart(world):
    for handler in ("merge", "audit"):
        assert await handle(world, Effect(DONE), handler=handler) == Settled()
    assert len(await world.ledger.steps("smoke")) == 2
    assert len(set(world.publisher.ids())) == 2


# --- tries ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (Retry("not yet"), "not yet"),
        (TransientError("locked", retry_after_seconds=0.5), "locked"),
        (ServiceUnavailableError("down"), "down"),
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops"),
    ],
)
async def test_what_may_pass_is_tried_three_times(world, end, reason):
    effect = Effect(end)
    assert await handle(world, effect) == Dead(f"{reason} (gave up after 3 tries)")
    assert effect.tries == 3
    record = await world.ledger.step(KEY)
    assert (record.status, record.attempt) == (StepStatus.FAILED, 1)
    assert record.reason == f"{reason} (gave up after 3 tries)"


@pytest.mark.parametrize("end", [Retry("not yet"), TransientError("x"), KeyError("x")])
async def test_a_later_try_counts(world, end):
    effect = Effect(end, end, DONE)
    assert await handle(world, effect) == Settled()
    assert effect.tries == 3
    assert world.publisher.topics() == ["shard-merged"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (Terminal("never"), "never"),
        (TerminalError("bad"), "TerminalError: bad"),
        (BatchJobError("cut"), "BatchJobError: cut"),
    ],
)
async def test_what_will_not_pass_is_tried_once(world, end, reason):
    effect = Effect(end)
    assert await handle(world, effect) == Dead(reason)
    assert effect.tries == 1
    assert world.sleeper.pauses == []


async def test_pauses_have_full_jitter_below_a_growing_ceiling(world):
    retrying = replace(RETRYING, tries=8, base_seconds=0.2, cap_seconds=5.0)
    ports = world.ports_with(retrying=retrying, random=random.Random(3))
    await handle(world, Effect(Retry("x", after_seconds=1.0)), ports)
    ceilings = [0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    draws = random.Random(3)
    assert world.sleeper.pauses == [1.0 + draws.uniform(0, ceiling) for ceiling in ceilings]


async def test_an_error_that_says_when_to_come_again_is_believed(world):
    await handle(world, Effect(TransientError("x", retry_after_seconds=30.0), DONE))
    [pause] = world.sleeper.pauses
    assert 30.0 <= pause <= 30.4


async def test_the_saga_is_told_once_of_a_terminal_end(world):
    for delivery in range(3):
        assert isinstance(await handle(world, Effect(Terminal("no"))), Dead), delivery
    told = derived_id(str(KEY), lost(COMPLETED, "no"))
    assert set(world.publisher.ids()) == {told}
    sent = world.publisher.published[0]
    assert decode(sent.data, sent.attributes, ShardFailed).event == lost(COMPLETED, "no")
    world.clock.advance(60)
    assert await relay_once(world.ports) == 0


async def test_a_step_that_tells_nobody_is_dead_all_the_same(world):
    assert await handle(world, Effect(Terminal("no")), lost=None) == Dead("no")
    assert world.publisher.published == []


async def test_a_failed_step_may_succeed_when_its_message_is_replayed(world):
    await handle(world, Effect(Terminal("no")))
    assert await handle(world, Effect(DONE)) == Settled()
    assert (await world.ledger.step(KEY)).receipt == RECEIPT
    assert world.publisher.topics() == ["shard-failed", "shard-merged"]


@pytest.mark.parametrize(
    "outcome", [Ack(RECEIPT, [MERGED, COMPLETED]), Wait("later", COMPLETED, 1.0)]
)
async def test_an_event_that_the_arrows_do_not_show_is_refused(world, outcome):
    effect = Effect(outcome)
    reason = "merge emits BatchCompleted, which it does not declare"
    assert await handle(world, effect) == Dead(reason)
    assert effect.tries == 1
    assert (await world.ledger.step(KEY)).receipt is None
    assert world.publisher.topics() == ["shard-failed"]


# --- waiting -------------------------------------------------------------------------------


async def test_waiting_gives_the_claim_back_and_comes_again_in_time(world):
    assert await handle(world, Effect(Wait("running", POLL, 45.0))) == Settled()
    record = await world.ledger.step(KEY)
    assert (record.status, record.reason) == (StepStatus.RELEASED, "running")
    assert world.publisher.published == []
    world.clock.advance(44.9)
    assert await relay_once(world.ports) == 0
    world.clock.advance(0.1)
    assert await relay_once(world.ports) == 1
    [timer] = world.publisher.published
    assert decode(timer.data, timer.attributes, BatchPollRequested).event == POLL
    assert timer.due == world.clock()
    assert await handle(world, Effect(DONE)) == Settled()
    assert (await world.ledger.step(KEY)).attempt == 2


# --- leases --------------------------------------------------------------------------------


class Work:
    """A handler under way until it is told to end."""

    def __init__(self):
        self.begun, self.end = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def __call__(self, *_):
        self.begun.set()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return DONE


class WatchedRenewals:
    """Tells when a renewal is through, with its claim or its error."""

    def __init__(self, ledger):
        self._ledger = ledger
        self.ends = asyncio.Queue()

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    async def renew(self, *args, **kwargs):
        try:
            claim = await self._ledger.renew(*args, **kwargs)
        except Exception as error:
            self.ends.put_nowait(error)
            raise
        self.ends.put_nowait(claim)
        return claim


async def test_a_lease_is_renewed_while_the_work_runs(world):
    work, ledger = Work(), WatchedRenewals(world.ledger)
    delivery = asyncio.create_task(handle(world, work, world.ports_with(ledger=ledger)))
    await work.begun.wait()
    for _ in range(4):
        world.clock.advance(3)
        world.sleeper.renew()
        renewed = await ledger.ends.get()
        assert renewed.lease_until == world.clock() + timedelta(seconds=RETRYING.lease_seconds)
    assert isinstance(await handle(world, Effect(DONE)), Redeliver)
    work.end.set()
    assert await delivery == Settled()
    assert (await world.ledger.step(KEY)).attempt == 1


async def test_work_whose_claim_was_overtaken_is_stopped_and_not_kept(world):
    work, ledger = Work(), WatchedRenewals(world.ledger)
    delivery = asyncio.create_task(handle(world, work, world.ports_with(ledger=ledger)))
    await work.begun.wait()
    world.clock.advance(9)
    other = Effect(Ack(replace(RECEIPT, digest="other"), []))
    assert await handle(world, other) == Settled()
    world.sleeper.renew()
    assert isinstance(await ledger.ends.get(), StaleClaimError)
    assert await delivery == Redeliver(RETRYING.redeliver_seconds)
    assert work.cancelled
    assert (await world.ledger.step(KEY)).receipt.digest == "other"
    assert world.publisher.published == []


async def test_work_that_ends_after_its_claim_was_overtaken_is_not_kept(world):
    work = Work()
    delivery = asyncio.create_task(handle(world, work))
    await work.begun.wait()
    world.clock.advance(9)
    await handle(world, Effect(Ack(replace(RECEIPT, digest="other"), [])))
    work.end.set()
    assert await delivery == Redeliver(RETRYING.redeliver_seconds)
    assert (await world.ledger.step(KEY)).receipt.digest == "other"
    assert await world.ledger.unpublished("smoke") == 0
    assert world.publisher.published == []


async def test_a_handler_that_finds_its_claim_overtaken_is_not_tried_again(world):
    effect = Effect(StaleClaimError("overtaken"), DONE)
    assert await handle(world, effect) == Redeliver(RETRYING.redeliver_seconds)
    assert effect.tries == 1
    assert world.publisher.published == []


async def test_work_outlives_a_renewal_that_does_not_get_through(world):
    class Deaf(WatchedRenewals):
        async def renew(self, *_, **__):
            self.ends.put_nowait(None)
            raise TransientError("no answer")

    work, ledger = Work(), Deaf(world.ledger)
    delivery = asyncio.create_task(handle(world, work, world.ports_with(ledger=ledger)))
    for _ in range(2):
        world.sleeper.renew()
        await ledger.ends.get()
    work.end.set()
    assert await delivery == Settled()


async def test_a_worker_that_is_stopped_gives_its_claim_back(world):
    work = Work()
    delivery = asyncio.create_task(handle(world, work))
    await work.begun.wait()
    delivery.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivery
    assert work.cancelled
    record = await world.ledger.step(KEY)
    assert (record.status, record.reason) == (StepStatus.RELEASED, "stopped")
    assert await handle(world, Effect(DONE)) == Settled()


class Breaking:
    """A ledger one of whose calls breaks off, before or after it took effect."""

    def __init__(self, ledger, call, *, after):
        self._ledger = ledger
        self._call = call
        self._after = after

    def __getattr__(self, name):
        method = getattr(self._ledger, name)

        async def broken(*args, **kwargs):
            if self._after:
                await method(*args, **kwargs)
            raise TransientError(f"{name}: no answer")

        return broken if name == self._call else method


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", ["claim", "complete", "published"])
async def test_a_ledger_that_breaks_off_leaves_no_claim_behind(world, call, after):
    ports = world.ports_with(ledger=Breaking(world.ledger, call, after=after))
    with pytest.raises(TransientError, match="no answer"):
        await handle(world, Effect(DONE), ports)
    if call == "claim" and after:
        world.clock.advance(RETRYING.lease_seconds)
    assert await handle(world, Effect(DONE)) == Settled()
    assert (await world.ledger.step(KEY)).receipt == RECEIPT
    assert set(world.publisher.ids()) == {MERGED_ID}


# --- publishing ----------------------------------------------------------------------------


async def test_what_the_bus_refuses_is_left_to_the_relay(world):
    world.publisher.broken = True
    assert await handle(world, Effect(DONE)) == Settled()
    assert (await world.ledger.step(KEY)).status is StepStatus.COMPLETED
    world.clock.advance(GRACE_SECONDS)
    assert await relay_once(world.ports) == 1
    assert await world.ledger.unpublished("smoke") == 1
    world.publisher.broken = False
    world.clock.advance(60)
    assert await relay_once(world.ports) == 1
    assert world.publisher.ids() == [MERGED_ID]
    assert await world.ledger.unpublished("smoke") == 0


async def test_what_the_saga_is_told_is_left_to_the_relay_too(world):
    """The message is dead by then: no redelivery would tell it again."""
    world.publisher.broken = True
    assert await handle(world, Effect(Terminal("no"))) == Dead("no")
    world.publisher.broken = False
    world.clock.advance(GRACE_SECONDS)
    assert await relay_once(world.ports) == 1
    assert world.publisher.topics() == ["shard-failed"]


# --- killed anywhere -----------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone; nothing catches it."""


class Lifeline:
    """Ends the process at the n-th moment before or after a call to the outside."""

    def __init__(self, moments):
        self._left = moments

    def moment(self):
        if self._left <= 0:
            raise Killed
        self._left -= 1

    @property
    def used_up(self):
        return self._left <= 0

    def around(self, part):
        return Mortal(part, self)


class Mortal:
    """A port on a lifeline."""

    def __init__(self, part, lifeline):
        self._part = part
        self._lifeline = lifeline

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            self._lifeline.moment()
            result = await getattr(self._part, name)(*args, **kwargs)
            self._lifeline.moment()
            return result

        return call


class Store:
    """Keeps each thing once, by its name."""

    def __init__(self):
        self.kept = {}

    async def put(self, name, value):
        await asyncio.sleep(0)
        assert self.kept.setdefault(name, value) == value


def storing(store, end):
    async def run(event, *_):
        await store.put(event.subject, event.output_uri)
        return end

    return run


ENDS = {
    "ack": (DONE, 10),
    "wait": (Wait("running", POLL, 45.0), 6),
    "terminal": (Terminal("no"), 10),
}


async def outcome_of(world, end, moments):
    """The world after a process died at the moment, its message came again, and time went by."""
    store, lifeline = Store(), Lifeline(moments)
    dying = world.ports_with(
        ledger=lifeline.around(world.ledger), publisher=lifeline.around(world.publisher)
    )
    try:
        await handle(world, storing(lifeline.around(store), end), dying)
        killed = False
    except Killed:
        killed = True
    world.clock.advance(RETRYING.lease_seconds)
    await handle(world, storing(store, end), world.ports_with(owner="worker-2"))
    world.clock.advance(60)
    while await relay_once(world.ports):
        pass
    record = await world.ledger.step(KEY)
    state = (
        record.status,
        record.reason,
        record.receipt,
        set(world.publisher.ids()),
        await world.ledger.unpublished("smoke"),
        store.kept,
    )
    return killed, state


@pytest.mark.parametrize(
    ("end", "moment"),
    [(end, moment) for end, (_, moments) in ENDS.items() for moment in range(moments)],
)
async def test_killed_at_any_moment_it_ends_the_same(world, end, moment):
    killed, state = await outcome_of(world, ENDS[end][0], moment)
    assert killed
    said = {"ack": MERGED, "wait": POLL, "terminal": lost(COMPLETED, "no")}[end]
    assert state == (
        {"ack": StepStatus.COMPLETED, "wait": StepStatus.RELEASED, "terminal": StepStatus.FAILED}[
            end
        ],
        {"ack": None, "wait": "running", "terminal": "no"}[end],
        RECEIPT if end == "ack" else None,
        {derived_id(str(KEY), said)},
        0,
        {"smoke/4/shard/2": "u"},
    )


@pytest.mark.parametrize("end", ENDS)
async def test_these_are_all_the_moments(world, end):
    outcome, moments = ENDS[end]
    killed, _ = await outcome_of(world, outcome, moments)
    assert not killed


async def test_a_completed_step_killed_while_it_says_so_again_still_says_it(world):
    await handle(world, Effect(DONE))
    for moment in range(6):
        world.publisher.published.clear()
        lifeline = Lifeline(moment)
        dying = world.ports_with(
            ledger=lifeline.around(world.ledger), publisher=lifeline.around(world.publisher)
        )
        with pytest.raises(Killed):
            await handle(world, Effect(DONE), dying)
        assert await handle(world, Effect(DONE)) == Settled()
        assert set(world.publisher.ids()) == {MERGED_ID}
    done = await world.ledger.claim(
        KEY, cause=cause(world), owner="w", now=world.clock(), lease_seconds=1
    )
    assert isinstance(done, Completed)
    assert not isinstance(done, Claim)
