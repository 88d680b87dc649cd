"""The running state machine: durability before answers, and a disk that fills up."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from embedded_pubsub import protos
from embedded_pubsub import runtime as runtime_module
from embedded_pubsub.changes import DropMessage, PutAck, PutMessage
from embedded_pubsub.errors import ResourceExhaustedError, UnavailableError
from embedded_pubsub.leases import Consumer
from embedded_pubsub.runtime import Journal, Runtime
from embedded_pubsub.store import Saved, SqliteStore
from embedded_pubsub.streaming import Stream

TOPIC = "projects/p/topics/topic"
SUBSCRIPTION = "projects/p/subscriptions/subscription"


class GatedStore:
    """Holds commits back until it is told, and refuses while it is full."""

    durable = True
    resident_bytes = float("inf")

    def __init__(self):
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.full = False
        self.no_room_for_messages = False
        self.groups = []

    def load(self):
        return Saved()

    def commit(self, changes):
        self.entered.set()
        self.gate.wait()
        if self.full or (self.no_room_for_messages and any_message(changes)):
            raise ResourceExhaustedError("full")
        self.groups.append(list(changes))

    def close(self):
        self.gate.set()


def any_message(changes):
    return any(isinstance(change, PutMessage) for change in changes)


@pytest.fixture
async def store():
    return GatedStore()


async def running(store):
    runtime = Runtime(store, asyncio.get_running_loop().time)
    state = runtime.state
    create = [
        runtime.call(lambda _: state.create_topic(protos.Topic(name=TOPIC))),
        runtime.call(
            lambda _: state.create_subscription(protos.Subscription(name=SUBSCRIPTION, topic=TOPIC))
        ),
    ]
    for each in create:
        await each
    return runtime


def publish(runtime, body=b"x"):
    messages = [protos.PubsubMessage(data=body)]
    return runtime.publish(protos.PublishRequest(topic=TOPIC, messages=messages))


async def test_what_is_asked_for_during_a_commit_goes_into_the_next_one(store):
    journal = Journal(store)
    writes = [journal.write([PutAck(0, 1)])]
    await asyncio.to_thread(store.entered.wait)
    writes += [journal.write([PutAck(n, 1)]) for n in range(1, 5)]
    assert not any(write.done() for write in writes)
    store.gate.set()
    await asyncio.gather(*writes)
    assert [len(group) for group in store.groups] == [1, 4]
    await journal.close()


async def test_publish_is_neither_answered_nor_delivered_before_it_is_durable(store):
    store.gate.set()
    runtime = await running(store)
    feed = runtime.open(runtime.state.subscription(SUBSCRIPTION), Consumer())
    store.gate.clear()
    store.entered.clear()
    publishing = asyncio.create_task(publish(runtime))
    await asyncio.to_thread(store.entered.wait)
    assert not publishing.done()
    assert feed.take() == []
    store.gate.set()
    (message_id,) = await publishing
    assert [str(lease.entry.message.seq) for lease in feed.take()] == [message_id]
    await runtime.close()


async def test_cancelled_publisher_does_not_lose_a_committed_message(store):
    store.gate.set()
    runtime = await running(store)
    feed = runtime.open(runtime.state.subscription(SUBSCRIPTION), Consumer())
    store.gate.clear()
    store.entered.clear()
    publishing = asyncio.create_task(publish(runtime))
    await asyncio.to_thread(store.entered.wait)
    publishing.cancel()
    store.gate.set()
    while not (leases := feed.take()):
        await feed.wait()
    assert len(leases) == 1
    await runtime.close()


async def test_full_disk_refuses_publishes_and_keeps_acks_for_later(store):
    store.gate.set()
    runtime = await running(store)
    await publish(runtime)
    subscription = runtime.state.subscription(SUBSCRIPTION)
    (lease,) = runtime.open(subscription, Consumer()).take()
    store.full = True
    with pytest.raises(ResourceExhaustedError):
        await publish(runtime, b"refused")
    with pytest.raises(ResourceExhaustedError):
        await runtime.call(lambda now: runtime.state.acknowledge(subscription, [lease.ack_id], now))
    store.full = False
    await publish(runtime, b"taken")
    kept = [change for group in store.groups for change in group]
    bodies = [
        protos.PubsubMessage.FromString(change.body).data
        for change in kept
        if isinstance(change, PutMessage)
    ]
    assert bodies == [b"x", b"taken"]
    assert DropMessage(lease.entry.message.seq) in kept
    await runtime.close()


async def test_acks_do_not_wait_for_publishes_that_find_no_room(store):
    store.gate.set()
    runtime = await running(store)
    await publish(runtime)
    subscription = runtime.state.subscription(SUBSCRIPTION)
    (lease,) = runtime.open(subscription, Consumer()).take()
    store.no_room_for_messages = True
    state = runtime.state
    refused, acked = await asyncio.gather(
        publish(runtime, b"refused"),
        runtime.call(lambda now: state.acknowledge(subscription, [lease.ack_id], now)),
        return_exceptions=True,
    )
    assert isinstance(refused, ResourceExhaustedError)
    assert acked is None
    assert store.groups[-1] == [DropMessage(lease.entry.message.seq)]
    await runtime.close()


async def exactly_once(store):
    """Give a stream with one message out, the commit of whose ack is held back, and the ack."""
    store.gate.set()
    runtime = Runtime(store, asyncio.get_running_loop().time)
    state = runtime.state
    await runtime.call(lambda _: state.create_topic(protos.Topic(name=TOPIC)))
    subscription = protos.Subscription(
        name=SUBSCRIPTION, topic=TOPIC, enable_exactly_once_delivery=True
    )
    await runtime.call(lambda _: state.create_subscription(subscription))
    await publish(runtime)
    first = protos.StreamingPullRequest(subscription=SUBSCRIPTION, stream_ack_deadline_seconds=10)
    stream = Stream(runtime, first)
    (delivery,) = protos.StreamingPullResponse.FromString(stream._next_response()).received_messages
    store.gate.clear()
    store.entered.clear()
    stream._settle(protos.StreamingPullRequest(ack_ids=[delivery.ack_id]))
    return runtime, stream, delivery.ack_id


async def confirmation(stream):
    while not (response := stream._next_response()):
        await stream._feed.wait()
    return protos.StreamingPullResponse.FromString(response).acknowledge_confirmation


async def test_ack_on_a_stream_is_confirmed_when_it_is_durable(store):
    runtime, stream, ack_id = await exactly_once(store)
    await asyncio.to_thread(store.entered.wait)
    assert stream._next_response() == b""
    store.gate.set()
    assert list((await confirmation(stream)).ack_ids) == [ack_id]
    await runtime.close()


async def test_ack_that_can_not_be_written_is_confirmed_as_failed_for_now(store):
    runtime, stream, ack_id = await exactly_once(store)
    store.full = True
    store.gate.set()
    confirmed = await confirmation(stream)
    assert (list(confirmed.temporary_failed_ack_ids), list(confirmed.ack_ids)) == ([ack_id], [])
    store.full = False
    await runtime.close()


async def test_lease_that_runs_out_wakes_the_feed(tmp_path):
    runtime = await running(SqliteStore(tmp_path))
    await publish(runtime)
    subscription = runtime.state.subscription(SUBSCRIPTION)
    feed = runtime.open(subscription, Consumer(ack_deadline_seconds=0.05))
    (first,) = feed.take()
    while not (again := feed.take()):
        await feed.wait()
    assert again[0].entry is first.entry
    await runtime.close()


@pytest.mark.parametrize("step", [-3600, 3600])
def test_clock_that_is_set_while_the_server_runs_changes_nothing(monkeypatch, step):
    times = SimpleNamespace(time=lambda: 1e9, monotonic=lambda: 5.0)
    monkeypatch.setattr(runtime_module, "time", times)
    clock = runtime_module.Clock()
    times.time = lambda: 1e9 + step
    times.monotonic = lambda: 7.5
    assert clock() == 1e9 + 2.5


async def test_closing_server_ends_its_feeds(store):
    store.gate.set()
    runtime = await running(store)
    feed = runtime.open(runtime.state.subscription(SUBSCRIPTION), Consumer())
    runtime.end_feeds()
    await feed.wait()
    with pytest.raises(UnavailableError):
        feed.take()
    await runtime.close()
