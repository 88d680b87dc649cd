"""The state machine of the whole server, driven by protobufs and a number for the time."""

import pytest

from embedded_pubsub import protos
from embedded_pubsub.changes import (
    DropMessage,
    PutAck,
    PutAttempt,
    PutMessage,
    PutOwed,
    PutSeek,
    PutSnapshot,
    PutSubscription,
    PutTopic,
    PutUse,
)
from embedded_pubsub.errors import FailedPreconditionError, NotFoundError, StaleAckIdError
from embedded_pubsub.leases import Consumer
from embedded_pubsub.seeking import seek_to_snapshot, seek_to_time
from embedded_pubsub.state import PubSub
from embedded_pubsub.store import Saved

TOPIC = "projects/p/topics/topic"
DEAD = "projects/p/topics/dead"
FIRST = "projects/p/subscriptions/first"
SECOND = "projects/p/subscriptions/second"
SNAPSHOT = "projects/p/snapshots/snapshot"
HOUR = 3600
DAY = 86_400


class World:
    """A state machine and the store's rows that its changes make."""

    def __init__(self, saved=None, **settings):
        self.log = []
        self.state = PubSub(saved or Saved(read=self.read), **settings)

    def read(self, seqs):
        return {m.seq: m.body for m in self.changes(PutMessage) if m.seq in seqs}

    def topic(self, name=TOPIC, **settings):
        self.state.create_topic(protos.Topic(name=name, **settings))
        return self

    def subscribe(self, name=FIRST, topic=TOPIC, **settings):
        self.state.create_subscription(protos.Subscription(name=name, topic=topic, **settings))
        return self

    def publish(self, *bodies, topic=TOPIC, now=0.0, **attributes):
        messages = [protos.PubsubMessage(data=b.encode(), attributes=attributes) for b in bodies]
        request = protos.PublishRequest(topic=topic, messages=messages)
        publication = self.state.prepare(request, now)
        self.state.changes.extend(publication.changes())
        self.state.deliver(publication)
        return publication.message_ids()

    def take(self, name=FIRST, now=0.0, count=100):
        subscription = self.state.subscription(name)
        return self.state.take(subscription, Consumer(), now, count, 10**9)

    def bodies(self, name=FIRST, now=0.0):
        return self.bodies_of(self.take(name, now))

    def bodies_of(self, leases):
        return [body_of(self.state.body(lease.entry.message)) for lease in leases]

    def ack(self, *leases, name=FIRST, now=0.0):
        ids = [lease.ack_id for lease in leases]
        self.state.acknowledge(self.state.subscription(name), ids, now)

    def nack(self, *leases, name=FIRST, now=0.0):
        ids = [lease.ack_id for lease in leases]
        subscription = self.state.subscription(name)
        self.state.modify_deadlines(subscription, ids, [0] * len(ids), now)

    def changes(self, kind):
        self.log += self.state.changes
        self.state.changes = []
        return [change for change in self.log if isinstance(change, kind)]

    def restarted(self):
        """Give the world that a store with these changes would give back."""
        dropped = {change.seq for change in self.changes(DropMessage)}
        stored = self.changes(PutMessage)
        latest = {change.number: change for change in self.changes(PutSubscription)}
        return World(
            Saved(
                opening=2,
                topics=self.changes(PutTopic),
                subscriptions=list(latest.values()),
                snapshots=self.changes(PutSnapshot),
                messages=[m[:-1] for m in self.changes(PutMessage) if m.seq not in dropped],
                acks=[ack for ack in self.changes(PutAck) if ack.seq not in dropped],
                attempts=self.changes(PutAttempt),
                owed=self.changes(PutOwed),
                seeks=self.changes(PutSeek),
                uses=self.changes(PutUse),
                read=lambda seqs: {m.seq: m.body for m in stored if m.seq in seqs},
            )
        )


def body_of(body):
    return protos.PubsubMessage.FromString(body).data.decode()


@pytest.fixture
def world():
    return World().topic().subscribe()


def test_last_ack_drops_the_message(world):
    world.subscribe(SECOND)
    (message_id,) = world.publish("x")
    world.ack(*world.take())
    assert world.changes(PutAck)[0].seq == int(message_id)
    assert world.changes(DropMessage) == []
    world.ack(*world.take(SECOND), name=SECOND)
    assert world.changes(DropMessage) == [DropMessage(int(message_id))]


def test_message_that_nobody_wants_is_dropped_at_once():
    world = World().topic()
    (message_id,) = world.publish("x")
    assert world.changes(DropMessage) == [DropMessage(int(message_id))]


def test_filtered_out_message_is_not_held():
    world = World().topic().subscribe(filter="attributes:k")
    world.publish("no")
    assert len(world.changes(DropMessage)) == 1
    world.publish("yes", k="v")
    assert world.bodies() == ["yes"]


def test_deleting_a_subscription_drops_what_only_it_held(world):
    world.publish("x")
    world.state.delete_subscription(FIRST)
    assert len(world.changes(DropMessage)) == 1
    with pytest.raises(NotFoundError):
        world.state.subscription(FIRST)


def test_subscription_made_between_acceptance_and_delivery_gets_nothing(world):
    request = protos.PublishRequest(topic=TOPIC, messages=[protos.PubsubMessage(data=b"x")])
    publication = world.state.prepare(request, 0)
    world.subscribe(SECOND)
    world.state.deliver(publication)
    assert world.bodies() == ["x"]
    assert world.bodies(SECOND) == []


def test_refused_acks_leave_the_others_settled():
    world = World().topic().subscribe(enable_exactly_once_delivery=True)
    world.publish("1", "2")
    good, late = world.take()
    world.nack(late)
    with pytest.raises(StaleAckIdError) as refused:
        world.ack(good, late)
    assert list(refused.value.failures) == [late.ack_id]
    assert world.bodies() == ["2"]


class TestDeadLetters:
    @pytest.fixture
    def world(self):
        policy = {"dead_letter_topic": DEAD, "max_delivery_attempts": 5}
        world = World().topic().topic(DEAD).subscribe(dead_letter_policy=policy)
        return world.subscribe(SECOND, DEAD)

    def test_are_forwarded_by_expiry_too(self, world):
        world.publish("poison")
        for n in range(5):
            assert world.bodies(now=n * 10) == ["poison"]
            world.state.tick(n * 10 + 10)
        assert world.bodies(now=50) == []
        assert world.bodies(SECOND, now=50) == ["poison"]

    def test_and_the_settling_of_the_source_are_one_commit(self, world):
        world.publish("poison")
        for _ in range(4):
            world.nack(*world.take())
        last = world.take()
        world.changes(PutMessage)
        world.nack(*last)
        kinds = [type(change) for change in world.state.changes]
        assert kinds == [PutMessage, DropMessage]

    def test_go_on_being_delivered_while_their_topic_is_gone(self, world):
        world.state.delete_topic(DEAD)
        world.publish("poison")
        for _ in range(7):
            leases = world.take()
            assert world.bodies_of(leases) == ["poison"]
            world.nack(*leases)


class TestRetention:
    def test_unacked_message_is_dropped_after_the_subscriptions_time(self, world):
        world.publish("old", now=0)
        world.publish("new", now=DAY)
        world.state.expire(7 * DAY + 1)
        assert world.bodies(now=7 * DAY + 1) == ["new"]
        assert len(world.changes(DropMessage)) == 1

    def test_retained_acked_message_is_dropped_after_the_same_time(self):
        world = World().topic().subscribe(retain_acked_messages=True)
        world.publish("x")
        world.ack(*world.take())
        assert world.changes(DropMessage) == []
        world.state.expire(7 * DAY + 1)
        assert len(world.changes(DropMessage)) == 1

    def test_topic_keeps_messages_for_subscriptions_to_come(self):
        world = World().topic(message_retention_duration={"seconds": 3600})
        world.publish("early", now=100)
        world.subscribe()
        assert world.bodies() == []
        seek_to_time(world.state, world.state.subscription(FIRST), 50, now=200)
        assert world.bodies(now=200) == ["early"]
        world.state.delete_subscription(FIRST)
        assert world.changes(DropMessage) == []
        world.state.expire(100 + 3601)
        assert len(world.changes(DropMessage)) == 1


class TestSeek:
    def test_keeps_the_order_of_a_key(self):
        world = World().topic()
        world.subscribe(retain_acked_messages=True, enable_message_ordering=True)
        for n in range(4):
            request = protos.PublishRequest(topic=TOPIC)
            request.messages.add(data=str(n).encode(), ordering_key="k")
            world.state.deliver(world.state.prepare(request, n))
        leases = world.take()
        world.ack(*leases[:2])
        seek_to_time(world.state, world.state.subscription(FIRST), 1, now=10)
        assert world.bodies(now=10) == ["1", "2", "3"]

    def test_delivers_again_what_is_out(self, world):
        world.publish("out", "acked late", now=5)
        leases = world.take()
        seek_to_time(world.state, world.state.subscription(FIRST), 1, now=10)
        world.ack(leases[1])
        assert world.bodies(now=10) == ["out", "acked late"]

    def test_late_ack_still_counts_for_deliveries_after_it(self, world):
        world.publish("x", now=5)
        seek_to_time(world.state, world.state.subscription(FIRST), 1, now=10)
        (lease,) = world.take(now=10)
        world.state.tick(now=100)
        world.ack(lease)
        assert world.bodies(now=100) == []

    def test_snapshot_of_a_deleted_topic_is_refused(self, world):
        world.state.delete_topic(TOPIC)
        request = protos.CreateSnapshotRequest(name=SNAPSHOT, subscription=FIRST)
        with pytest.raises(FailedPreconditionError):
            world.state.create_snapshot(request, 0)

    def test_snapshot_expires_seven_days_after_its_oldest_message(self, world):
        world.publish("x", now=0)
        request = protos.CreateSnapshotRequest(name=SNAPSHOT, subscription=FIRST)
        snapshot = world.state.create_snapshot(request, now=DAY)
        assert snapshot.expire_time.seconds == 7 * DAY
        world.state.expire(7 * DAY)
        with pytest.raises(NotFoundError):
            world.state.snapshot(SNAPSHOT)


class TestRestart:
    def test_brings_back_what_is_unsettled_in_order(self, world):
        world.publish("1", "2", "3")
        leases = world.take()
        world.ack(leases[1])
        assert world.restarted().bodies() == ["1", "3"]

    def test_keeps_each_subscriptions_own_view(self, world):
        world.subscribe(SECOND, filter="attributes:k")
        world.publish("plain")
        world.publish("marked", k="v")
        world.ack(*world.take(SECOND), name=SECOND)
        again = world.restarted()
        assert again.bodies() == ["plain", "marked"]
        assert again.bodies(SECOND) == []

    def test_later_subscription_still_gets_nothing_from_before_it(self, world):
        world.publish("early")
        world.subscribe(SECOND)
        assert world.restarted().bodies(SECOND) == []

    def test_gives_new_ids(self, world):
        (before,) = world.publish("1")
        (after,) = world.restarted().publish("2")
        assert int(after) > int(before) + 1000

    def test_subscription_of_a_deleted_topic_keeps_its_messages(self, world):
        world.publish("x")
        world.state.delete_topic(TOPIC)
        again = world.restarted()
        assert again.bodies() == ["x"]
        assert again.state.subscription(FIRST).config.topic == "_deleted-topic_"

    def test_counts_the_lease_that_was_lost(self):
        policy = {"dead_letter_topic": DEAD, "max_delivery_attempts": 5}
        world = World().topic().topic(DEAD).subscribe(dead_letter_policy=policy)
        world.publish("x")
        world.take()
        (lease,) = world.restarted().take()
        assert lease.entry.failures == 1

    def test_snapshot_still_brings_back_its_messages(self, world):
        world.publish("backlog")
        world.state.create_snapshot(
            protos.CreateSnapshotRequest(name=SNAPSHOT, subscription=FIRST), 0
        )
        world.publish("after")
        world.ack(*world.take())
        again = world.restarted()
        assert again.bodies() == []
        seek_to_snapshot(again.state, again.state.subscription(FIRST), SNAPSHOT, 0)
        assert again.bodies() == ["backlog", "after"]

    def test_ack_from_before_still_counts_without_exactly_once(self, world):
        world.publish("x")
        leases = world.take()
        again = world.restarted()
        again.ack(*leases)
        assert again.bodies() == []

    def test_ack_from_before_a_seek_still_does_not_count(self, world):
        world.publish("x", now=5)
        leases = world.take(now=5)
        seek_to_time(world.state, world.state.subscription(FIRST), 1, now=10)
        again = world.restarted()
        again.ack(*leases)
        assert again.bodies(now=10) == ["x"]

    def test_ack_from_after_a_seek_still_counts(self, world):
        world.publish("x", now=5)
        seek_to_time(world.state, world.state.subscription(FIRST), 1, now=10)
        leases = world.take(now=10)
        again = world.restarted()
        again.ack(*leases)
        assert again.bodies(now=10) == []

    def test_clock_that_is_set_back_drops_nothing_early_and_late_by_no_more(self, world):
        (before,) = world.publish("before", now=HOUR)
        again = world.restarted()
        again.publish("after", now=0)
        again.state.expire(7 * DAY + HOUR)
        messages = again.state.subscription(FIRST).backlog.messages()
        assert int(before) in {message.seq for message in messages}
        again.state.expire(7 * DAY + HOUR + 1)
        assert len(again.state.subscription(FIRST).backlog) == 0

    def test_clock_that_is_set_back_keeps_what_is_in_use(self):
        world = World().topic().subscribe(expiration_policy={"ttl": {"seconds": DAY}})
        world.take(now=DAY)
        again = world.restarted()
        again.take(now=DAY - HOUR)
        again.state.expire(2 * DAY - HOUR)
        assert FIRST in again.state.subscriptions
        again.state.expire(2 * DAY - HOUR + 1)
        assert FIRST not in again.state.subscriptions

    def test_keeps_what_a_seek_brought_from_before_the_subscription(self):
        world = World().topic(message_retention_duration={"seconds": 3600}).subscribe(SECOND)
        world.publish("1", "2", now=100)
        world.subscribe()
        seek_to_time(world.state, world.state.subscription(FIRST), 50, now=200)
        first, _ = world.take(now=200)
        world.ack(first, now=200)
        assert world.restarted().bodies(now=200) == ["2"]

    @pytest.mark.parametrize("filters", [("", ""), ("attributes:k", ""), ("attributes:k",) * 2])
    def test_takes_back_acks_of_one_of_two(self, filters):
        world = World().topic()
        for name, text in zip((FIRST, SECOND), filters, strict=True):
            world.subscribe(name, filter=text)
        world.publish("1", "2", "3", k="v")
        leases = world.take()
        world.ack(leases[0], leases[2])
        again = world.restarted()
        assert len(again.state.subscription(FIRST).backlog) == 1
        assert again.bodies() == ["2"]
        assert again.bodies(SECOND) == ["1", "2", "3"]

    def test_drops_what_nobody_holds_any_more(self, world):
        world.publish("1", "2")
        world.ack(*world.take(count=1))
        again = world.restarted()
        again.ack(*again.take())
        assert len(again.changes(DropMessage)) == 1

    def test_keeps_retained_acked_messages(self):
        world = World().topic().subscribe(retain_acked_messages=True)
        world.publish("1", "2", now=1)
        world.ack(*world.take(now=1), now=1)
        again = world.restarted()
        assert again.bodies(now=2) == []
        seek_to_time(again.state, again.state.subscription(FIRST), 0, now=2)
        assert again.bodies(now=2) == ["1", "2"]

    def test_detached_subscription_stays_empty(self, world):
        world.publish("1")
        world.state.detach_subscription(FIRST)
        world.publish("2")
        again = world.restarted()
        assert len(again.state.subscription(FIRST).backlog) == 0
        assert len(again.changes(DropMessage)) == 0

    def test_the_time_of_last_use_goes_on_counting(self):
        world = World().topic().subscribe(expiration_policy={"ttl": {"seconds": DAY}})
        world.state.expire(0)
        world.take(now=DAY / 2)
        again = world.restarted()
        again.state.expire(1.5 * DAY)
        assert FIRST in again.state.subscriptions
        again.state.expire(1.5 * DAY + HOUR + 1)
        assert FIRST not in again.state.subscriptions

    def test_a_use_that_was_not_saved_is_not_forgotten(self):
        world = World().topic().subscribe(expiration_policy={"ttl": {"seconds": DAY}})
        world.state.expire(0)
        world.take(now=HOUR - 1)
        again = world.restarted()
        again.state.expire(DAY + HOUR - 1)
        assert FIRST in again.state.subscriptions

    def test_snapshot_still_expires_when_it_would_have(self, world):
        world.publish("x", now=0)
        request = protos.CreateSnapshotRequest(name=SNAPSHOT, subscription=FIRST)
        world.state.create_snapshot(request, now=DAY)
        again = world.restarted()
        again.state.expire(7 * DAY - 1)
        assert SNAPSHOT in again.state.snapshots
        again.state.expire(7 * DAY)
        assert SNAPSHOT not in again.state.snapshots


@pytest.mark.parametrize(
    "use",
    [
        lambda state, lease: state.acknowledge(state.subscription(FIRST), [lease.ack_id], DAY),
        lambda state, lease: state.modify_deadlines(
            state.subscription(FIRST), [lease.ack_id], [20], DAY
        ),
        lambda state, _: seek_to_time(state, state.subscription(FIRST), 1, DAY),
        lambda state, _: state.create_snapshot(
            protos.CreateSnapshotRequest(name=SNAPSHOT, subscription=FIRST), DAY
        ),
        lambda state, _: state.update_subscription(
            protos.UpdateSubscriptionRequest(
                subscription={"name": FIRST, "ack_deadline_seconds": 77},
                update_mask={"paths": ["ack_deadline_seconds"]},
            ),
            DAY,
        ),
    ],
    ids=["acknowledge", "modify deadlines", "seek", "snapshot", "update"],
)
def test_operations_are_use(use):
    world = World().topic().subscribe(expiration_policy={"ttl": {"seconds": DAY}})
    world.publish("x")
    (lease,) = world.take(now=1)
    use(world.state, lease)
    world.state.expire(2 * DAY)
    assert FIRST in world.state.subscriptions


def test_use_is_saved_once_an_hour():
    world = World().topic().subscribe()
    for minute in range(0, 180, 10):
        world.take(now=minute * 60)
        world.state.expire(minute * 60)
    assert [use.used for use in world.changes(PutUse)] == [0, 3600, 7200]


def test_only_what_is_due_is_ticked(world):
    world.subscribe(SECOND)
    world.publish("x")
    world.take(now=0)
    world.take(SECOND, now=5)
    assert world.state.next_due() == 10
    world.state.tick(10)
    assert world.bodies(now=10) == ["x"]
    assert world.bodies(SECOND, now=10) == []
    assert world.state.next_due() == 15


def test_deleted_subscription_is_not_ticked(world):
    world.publish("x")
    world.take(now=0)
    world.state.delete_subscription(FIRST)
    world.state.tick(10)
    assert world.state.next_due() is None


def test_bodies_beyond_what_memory_may_hold_come_from_the_store():
    world = World(resident_bytes=40).topic().subscribe()
    world.publish("first", "second", "third")
    messages = list(world.state.subscription(FIRST).backlog.messages())
    assert [message.body is None for message in messages] == [False, True, True]
    assert world.bodies() == ["first", "second", "third"]
    world.state.tick(10)
    world.ack(*world.take(now=10), now=10)
    world.publish("fourth", now=10)
    (message,) = world.state.subscription(FIRST).backlog.messages()
    assert message.body is not None


def test_publish_costs_a_subscription_nothing_before_it_is_read(world):
    for n in range(50):
        world.subscribe(f"projects/p/subscriptions/sub-{n}")
    world.publish("x")
    assert all(not s.backlog.entries for s in world.state.subscriptions.values())
    assert all(len(s.backlog) == 1 for s in world.state.subscriptions.values())


def test_id_and_time_of_the_publisher_do_not_count(world):
    message = protos.PubsubMessage(data=b"x", message_id="mine")
    message.publish_time.FromSeconds(5)
    request = protos.PublishRequest(topic=TOPIC, messages=[message])
    publication = world.state.prepare(request, 1234.5)
    world.state.deliver(publication)
    (lease,) = world.take(now=1235)
    found = protos.PubsubMessage.FromString(lease.entry.message.body)
    assert found.message_id == publication.message_ids()[0]
    assert (found.publish_time.seconds, found.publish_time.nanos) == (1234, 500_000_000)


class TestExpiration:
    def test_unused_subscription_is_deleted_after_its_time(self):
        world = World().topic().subscribe(expiration_policy={"ttl": {"seconds": DAY}})
        world.state.expire(0)
        world.state.expire(DAY)
        assert FIRST in world.state.subscriptions
        world.state.expire(DAY + 1)
        assert FIRST not in world.state.subscriptions

    def test_use_and_waiting_keep_it(self):
        world = World().topic().subscribe(expiration_policy={"ttl": {"seconds": DAY}})
        world.state.expire(0)
        world.take(now=DAY)
        world.state.expire(2 * DAY)
        world.state.expire(3 * DAY, [world.state.subscription(FIRST)])
        world.state.expire(4 * DAY)
        assert FIRST in world.state.subscriptions

    def test_policy_without_a_time_never_ends_it(self):
        world = World().topic().subscribe(expiration_policy={})
        world.state.expire(0)
        world.state.expire(10_000 * DAY)
        assert FIRST in world.state.subscriptions
