"""Delivery, by the official clients: leases, retries, dead letters, order, exactly once, seek."""

import queue
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import UTC, datetime, timedelta

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1.subscriber.exceptions import AcknowledgeError, AcknowledgeStatus
from google.cloud.pubsub_v1.types import FlowControl
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1.types import StreamingPullRequest

WAIT_SECONDS = 30


def bodies(received):
    return [each.message.data.decode() for each in received]


class Subscribed:
    """The official threaded subscriber, its messages in a queue."""

    def __init__(self, pubsub, **options):
        self.messages = queue.Queue()
        self.future = pubsub.subscriber.subscribe(
            pubsub.subscription, self.messages.put, await_callbacks_on_shutdown=True, **options
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.future.cancel()
        self.future.result(WAIT_SECONDS)

    def next(self):
        return self.messages.get(timeout=WAIT_SECONDS)


class Streamed:
    """A raw streaming pull whose requests we choose."""

    def __init__(self, pubsub, **first):
        self._requests = queue.SimpleQueue()
        self.send(subscription=pubsub.subscription, stream_ack_deadline_seconds=60, **first)
        self.responses = pubsub.subscriber.streaming_pull(
            iter(self._requests.get, None), timeout=WAIT_SECONDS
        )

    def send(self, **fields):
        self._requests.put(StreamingPullRequest(**fields))

    def next(self):
        while True:
            response = next(iter(self.responses))
            if response.received_messages:
                return list(response.received_messages)

    def take(self, count):
        received = []
        while len(received) < count:
            received += self.next()
        return received

    def end(self):
        self._requests.put(None)


def test_subscriber_gets_and_acks(pubsub):
    pubsub.create()
    with Subscribed(pubsub) as subscribed:
        pubsub.publish("one", "two", n="1")
        messages = [subscribed.next(), subscribed.next()]
        assert {each.data for each in messages} == {b"one", b"two"}
        assert messages[0].attributes["n"] == "1"
        for each in messages:
            each.ack()
    assert pubsub.pull(now=True) == []


def test_nacked_message_comes_again_to_the_subscriber(pubsub):
    pubsub.create()
    with Subscribed(pubsub) as subscribed:
        pubsub.publish("x")
        first = subscribed.next()
        first.nack()
        again = subscribed.next()
        assert again.message_id == first.message_id
        again.ack()


def test_pull_leases_until_the_deadline(pubsub):
    pubsub.create()
    pubsub.publish("x")
    (first,) = pubsub.pull(1)
    assert pubsub.pull(now=True) == []
    pubsub.extend(1, first)
    (again,) = pubsub.pull(1)
    assert again.message.message_id == first.message.message_id
    pubsub.ack(again)
    assert pubsub.pull(now=True) == []


def test_pull_waits_for_a_message(pubsub):
    pubsub.create()
    future = pubsub.publisher.publish(pubsub.topic, b"later")
    (received,) = pubsub.pull(1)
    assert received.message.message_id == future.result(WAIT_SECONDS)


def test_pull_needs_a_positive_count(pubsub):
    pubsub.create()
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscriber.pull(subscription=pubsub.subscription, max_messages=0)


def test_nack_by_pull_makes_ready_at_once(pubsub):
    pubsub.create()
    pubsub.publish("x")
    (first,) = pubsub.pull(1)
    pubsub.nack(first)
    assert bodies(pubsub.pull(1)) == ["x"]


def test_ack_id_that_is_none_is_refused(pubsub, differs):
    differs("takes any text for an ack id")
    pubsub.create()
    request = {"subscription": pubsub.subscription, "ack_ids": ["nonsense"]}
    with pytest.raises(exceptions.InvalidArgument, match="invalid ack ID"):
        pubsub.subscriber.acknowledge(request=request)


def test_deadline_over_600_seconds_is_refused(pubsub, differs):
    differs("extends a lease beyond 600 s")
    pubsub.create()
    pubsub.publish("x")
    (received,) = pubsub.pull(1)
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.extend(601, received)


def test_retry_policy_holds_a_nacked_message_back(pubsub, differs):
    differs("ignores the retry policy")
    policy = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 2}}
    pubsub.create(retry_policy=policy)
    pubsub.publish("x")
    (received,) = pubsub.pull(1)
    pubsub.nack(received)
    nacked = time.monotonic()
    assert pubsub.pull(now=True) == []
    (again,) = pubsub.pull(1)
    assert time.monotonic() - nacked >= 0.9
    pubsub.ack(again)


def test_dead_letters_are_forwarded_with_where_they_come_from(pubsub):
    dead_topic = pubsub.name("topics", "dead")
    dead = pubsub.name("subscriptions", "dead")
    pubsub.publisher.create_topic(name=dead_topic)
    pubsub.subscribe(dead, topic=dead_topic)
    pubsub.create(dead_letter_policy={"dead_letter_topic": dead_topic, "max_delivery_attempts": 5})
    (message_id,) = pubsub.publish("poison", k="v")
    for attempt in range(1, 6):
        (received,) = pubsub.pull(1)
        assert received.delivery_attempt == attempt
        pubsub.nack(received)
    assert pubsub.pull(now=True) == []
    (forwarded,) = pubsub.pull(1, dead)
    assert forwarded.message.data == b"poison"
    assert forwarded.message.message_id != message_id
    attributes = dict(forwarded.message.attributes)
    published = datetime.fromisoformat(
        attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
    )
    assert published - received.message.publish_time < timedelta(milliseconds=1)
    assert attributes == {
        "k": "v",
        "CloudPubSubDeadLetterSourceSubscription": "subscription",
        "CloudPubSubDeadLetterSourceSubscriptionProject": pubsub.project,
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
    }


def test_dead_letter_topic_must_exist(pubsub):
    policy = {"dead_letter_topic": pubsub.name("topics", "absent")}
    with pytest.raises(exceptions.NotFound):
        pubsub.create(dead_letter_policy=policy)


def test_filter_lets_only_matching_messages_through(pubsub, differs):
    differs("ignores filters")
    pubsub.create(filter='attributes.kind = "a" AND NOT attributes:hidden')
    pubsub.publish("other", kind="b")
    pubsub.publish("hidden", kind="a", hidden="")
    pubsub.publish("shown", kind="a")
    assert bodies(pubsub.pull(1)) == ["shown"]
    assert pubsub.pull(now=True) == []


class TestOrdering:
    def test_keys_arrive_in_order(self, pubsub):
        pubsub.create(enable_message_ordering=True)
        sent = {key: [f"{key}{n}" for n in range(50)] for key in "ab"}
        for n in range(50):
            for key in "ab":
                pubsub.publisher.publish(pubsub.topic, sent[key][n].encode(), ordering_key=key)
        got = {"a": [], "b": []}
        with Subscribed(pubsub) as subscribed:
            for _ in range(100):
                message = subscribed.next()
                got[message.ordering_key].append(message.data.decode())
                message.ack()
        assert got == sent

    def test_nack_brings_the_later_ones_again(self, pubsub, differs):
        differs("redelivers later messages of a key only when their leases run out", hangs=True)
        pubsub.create(enable_message_ordering=True)
        pubsub.publish("1", "2", "3", key="k")
        stream = Streamed(pubsub)
        received = stream.take(3)
        assert bodies(received) == ["1", "2", "3"]
        nack = {
            "modify_deadline_ack_ids": [received[0].ack_id],
            "modify_deadline_seconds": [0],
        }
        stream.send(**nack)
        again = stream.take(3)
        assert bodies(again) == ["1", "2", "3"]
        stream.send(ack_ids=[each.ack_id for each in again])
        stream.end()

    def test_key_is_with_one_consumer_at_a_time(self, pubsub):
        pubsub.create(enable_message_ordering=True)
        pubsub.publish("1", "2", key="k")
        (first,) = pubsub.pull(1)
        assert pubsub.pull(now=True) == []
        pubsub.ack(first)
        assert bodies(pubsub.pull(1)) == ["2"]


class TestExactlyOnce:
    def test_an_ack_id_twice_in_a_request_is_one_ack(self, pubsub):
        pubsub.create(enable_exactly_once_delivery=True)
        pubsub.publish("once")
        (received,) = pubsub.pull(1)
        pubsub.ack(received, received)
        assert pubsub.pull(now=True) == []

    def test_ack_is_confirmed(self, pubsub):
        pubsub.create(enable_exactly_once_delivery=True)
        pubsub.publish("x")
        with Subscribed(pubsub) as subscribed:
            message = subscribed.next()
            assert message.ack_with_response().result(WAIT_SECONDS) == AcknowledgeStatus.SUCCESS
        assert pubsub.pull(now=True) == []

    def test_ack_after_the_deadline_fails(self, pubsub):
        pubsub.create(enable_exactly_once_delivery=True)
        pubsub.publish("x")
        (late,) = pubsub.pull(1)
        pubsub.extend(1, late)
        (current,) = pubsub.pull(1)
        with pytest.raises(exceptions.InvalidArgument) as refused:
            pubsub.ack(late)
        assert refused.value.reason == "EXACTLY_ONCE_ACKID_FAILURE"
        assert refused.value.metadata == {late.ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"}
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.extend(10, late)
        pubsub.ack(current)

    def test_subscriber_is_told_that_its_ack_came_too_late(self, pubsub):
        pubsub.create(enable_exactly_once_delivery=True)
        pubsub.publish("x")
        with Subscribed(pubsub) as subscribed:
            message = subscribed.next()
            pubsub.subscriber.modify_ack_deadline(
                subscription=pubsub.subscription, ack_ids=[message.ack_id], ack_deadline_seconds=0
            )
            with pytest.raises(AcknowledgeError) as refused:
                message.ack_with_response().result(WAIT_SECONDS)
            assert refused.value.error_code == AcknowledgeStatus.INVALID_ACK_ID
            subscribed.next().ack()

    def test_stream_confirms_acks(self, pubsub, differs):
        differs("confirms nothing on the stream")
        pubsub.create(enable_exactly_once_delivery=True)
        pubsub.publish("x")
        stream = Streamed(pubsub)
        (received,) = stream.take(1)
        stream.send(ack_ids=[received.ack_id, "1-2-3"])
        confirmation = next(iter(stream.responses)).acknowledge_confirmation
        stream.end()
        assert list(confirmation.ack_ids) == [received.ack_id]
        assert list(confirmation.invalid_ack_ids) == ["1-2-3"]


class TestStreamingPull:
    def test_server_keeps_to_max_outstanding_messages(self, pubsub, differs):
        differs("has no flow control of its own")
        pubsub.create()
        pubsub.publish(*(str(n) for n in range(10)))
        stream = Streamed(pubsub, max_outstanding_messages=3)
        first = stream.take(3)
        assert len(first) == 3
        assert len(pubsub.pull(7)) == 7
        stream.end()

    def test_server_keeps_to_max_outstanding_bytes(self, pubsub, differs):
        differs("has no flow control of its own")
        pubsub.create()
        pubsub.publish(*["x" * 1000] * 10)
        stream = Streamed(pubsub, max_outstanding_bytes=2500)
        assert len(stream.take(3)) == 3
        assert len(pubsub.pull(7)) == 7
        stream.end()

    def test_ack_makes_room(self, pubsub):
        pubsub.create()
        pubsub.publish("1", "2")
        stream = Streamed(pubsub, max_outstanding_messages=1)
        got = []
        while len(got) < 2:
            received = stream.next()
            got += bodies(received)
            stream.send(ack_ids=[each.ack_id for each in received])
        stream.end()
        assert sorted(got) == ["1", "2"]

    def test_flow_control_of_the_subscriber(self, pubsub):
        pubsub.create()
        pubsub.publish(*(str(n) for n in range(20)))
        with Subscribed(pubsub, flow_control=FlowControl(max_messages=2)) as subscribed:
            got = []
            for _ in range(20):
                message = subscribed.next()
                got.append(int(message.data))
                message.ack()
        assert sorted(got) == list(range(20))

    def test_tells_the_subscriptions_properties(self, pubsub):
        pubsub.create(enable_message_ordering=True)
        pubsub.publish("x")
        stream = Streamed(pubsub)
        response = next(iter(stream.responses))
        stream.end()
        assert response.subscription_properties.message_ordering_enabled
        assert not response.subscription_properties.exactly_once_delivery_enabled

    def test_answers_the_pings_of_clients_that_wait_for_it(self, pubsub, differs):
        differs("does not answer pings", hangs=True)
        pubsub.create(enable_message_ordering=True)
        stream = Streamed(pubsub, protocol_version=1)
        for _ in range(2):
            stream.send()
            response = next(iter(stream.responses))
            assert not response.received_messages
            assert response.subscription_properties.message_ordering_enabled
        stream.end()
        assert list(stream.responses) == []

    def test_says_nothing_to_the_pings_of_older_clients(self, pubsub):
        pubsub.create()
        stream = Streamed(pubsub)
        stream.send()
        stream.end()
        assert list(stream.responses) == []

    @pytest.mark.parametrize(
        "second",
        [
            {"subscription": "projects/p/subscriptions/other"},
            {"max_outstanding_messages": 5},
            {"protocol_version": 1},
            {"modify_deadline_ack_ids": ["1-2-3"]},
            {"modify_deadline_ack_ids": ["1-2-3"], "modify_deadline_seconds": [-1]},
            {"stream_ack_deadline_seconds": 5},
        ],
        ids=["subscription", "flow control", "protocol", "lengths", "negative", "deadline"],
    )
    def test_bad_later_request_ends_the_stream(self, pubsub, differs, second):
        if "max_outstanding_messages" in second:
            differs("takes flow control in a later request", hangs=True)
        if "protocol_version" in second:
            differs("takes the protocol version in a later request", hangs=True)
        pubsub.create()
        stream = Streamed(pubsub)
        stream.send(**second)
        with pytest.raises(exceptions.InvalidArgument):
            stream.next()
        stream.end()

    def test_half_closed_stream_ends(self, pubsub):
        pubsub.create()
        stream = Streamed(pubsub)
        stream.end()
        assert list(stream.responses) == []

    def test_deleted_subscription_ends_its_streams(self, pubsub):
        pubsub.create()
        future = pubsub.subscriber.subscribe(pubsub.subscription, lambda _: None)
        with pytest.raises(FutureTimeoutError):
            future.result(0.1)
        pubsub.subscriber.delete_subscription(subscription=pubsub.subscription)
        with pytest.raises(exceptions.NotFound):
            future.result(WAIT_SECONDS)


class TestSeek:
    def seek(self, pubsub, **target):
        pubsub.subscriber.seek(request={"subscription": pubsub.subscription, **target})

    def test_to_the_future_acknowledges_everything(self, pubsub):
        pubsub.create()
        pubsub.publish("old")
        self.seek(pubsub, time=datetime.now(UTC) + timedelta(minutes=1))
        assert pubsub.pull(now=True) == []

    def test_to_the_past_brings_retained_messages_again(self, pubsub):
        pubsub.create(retain_acked_messages=True)
        pubsub.publish("1", "2")
        pubsub.ack(*pubsub.pull(2))
        assert pubsub.pull(now=True) == []
        self.seek(pubsub, time=datetime.now(UTC) - timedelta(minutes=1))
        assert sorted(bodies(pubsub.pull(2))) == ["1", "2"]

    def test_without_retention_nothing_comes_again(self, pubsub):
        pubsub.create()
        pubsub.publish("1")
        pubsub.ack(*pubsub.pull(1))
        self.seek(pubsub, time=datetime.now(UTC) - timedelta(minutes=1))
        assert pubsub.pull(now=True) == []

    def test_to_a_snapshot_brings_its_backlog_and_what_came_after(self, pubsub):
        pubsub.create()
        pubsub.publish("acked")
        pubsub.ack(*pubsub.pull(1))
        pubsub.publish("backlog")
        snapshot = pubsub.name("snapshots", "snapshot")
        made = pubsub.subscriber.create_snapshot(name=snapshot, subscription=pubsub.subscription)
        assert made.topic == pubsub.topic
        pubsub.publish("after")
        pubsub.ack(*pubsub.pull(2))
        self.seek(pubsub, snapshot=snapshot)
        assert sorted(bodies(pubsub.pull(2))) == ["after", "backlog"]
        pubsub.subscriber.delete_snapshot(snapshot=snapshot)
        with pytest.raises(exceptions.NotFound):
            self.seek(pubsub, snapshot=snapshot)

    def test_ack_from_before_does_not_count(self, pubsub):
        pubsub.create()
        snapshot = pubsub.name("snapshots", "snapshot")
        pubsub.subscriber.create_snapshot(name=snapshot, subscription=pubsub.subscription)
        pubsub.publish("again")
        received = pubsub.pull(1)
        self.seek(pubsub, snapshot=snapshot)
        pubsub.ack(*received)
        assert bodies(pubsub.pull(1)) == ["again"]


def test_retry_policy_can_be_taken_off(pubsub):
    policy = {"minimum_backoff": {"seconds": 60}}
    pubsub.create(retry_policy=policy)
    found = pubsub.subscriber.update_subscription(
        request={
            "subscription": {"name": pubsub.subscription},
            "update_mask": FieldMask(paths=["retry_policy"]),
        }
    )
    assert not found.retry_policy
    pubsub.publish("x")
    pubsub.nack(*pubsub.pull(1))
    assert bodies(pubsub.pull(1)) == ["x"]
