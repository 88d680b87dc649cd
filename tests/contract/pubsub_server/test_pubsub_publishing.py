"""Publishing and its limits, by the official clients."""

import pytest
from google.api_core import exceptions
from google.pubsub_v1 import PublisherClient as UnbatchedPublisher

MAX_BYTES = 10_000_000


def publish(pubsub, *messages):
    request = {"topic": pubsub.topic, "messages": list(messages)}
    return UnbatchedPublisher.publish(pubsub.publisher, request=request)


def test_message_arrives_as_it_was_published(pubsub):
    pubsub.create()
    (message_id,) = pubsub.publish("höre", colour="grün", empty="")
    (received,) = pubsub.pull(1)
    message = received.message
    assert message.data.decode() == "höre"
    assert dict(message.attributes) == {"colour": "grün", "empty": ""}
    assert message.message_id == message_id
    assert message.publish_time.timestamp() > 1_700_000_000
    assert received.delivery_attempt == 0


def test_every_subscription_gets_its_own_copy(pubsub):
    pubsub.create()
    other = pubsub.name("subscriptions", "other")
    pubsub.subscribe(other)
    pubsub.publish("x")
    (first,) = pubsub.pull(1)
    pubsub.ack(first)
    (second,) = pubsub.pull(1, other)
    assert second.message.message_id == first.message.message_id


def test_subscription_gets_what_is_published_after_it(pubsub):
    pubsub.publisher.create_topic(name=pubsub.topic)
    pubsub.publish("before")
    pubsub.subscribe(pubsub.subscription)
    pubsub.publish("after")
    assert [each.message.data for each in pubsub.pull(1)] == [b"after"]
    assert pubsub.pull(now=True) == []


def test_ids_are_unique_and_numeric(pubsub):
    pubsub.create()
    ids = [*pubsub.publish(*"abc"), *pubsub.publish(*"def")]
    assert len(set(ids)) == 6
    assert all(each.isdigit() for each in ids)


def test_batching_publisher_resolves_its_futures(pubsub):
    pubsub.create()
    futures = [pubsub.publisher.publish(pubsub.topic, b"%d" % n) for n in range(250)]
    ids = [future.result(30) for future in futures]
    assert len(set(ids)) == 250
    assert sorted(int(each.message.data) for each in pubsub.pull(250)) == list(range(250))


def test_attributes_alone_are_a_message(pubsub):
    pubsub.create()
    publish(pubsub, {"attributes": {"k": "v"}})
    (received,) = pubsub.pull(1)
    assert received.message.data == b""


def test_empty_message_is_refused(pubsub):
    pubsub.create()
    with pytest.raises(exceptions.InvalidArgument):
        publish(pubsub, {"data": b"good"}, {})
    assert pubsub.pull(now=True) == []


def test_request_without_messages_is_refused(pubsub):
    pubsub.create()
    with pytest.raises(exceptions.InvalidArgument):
        publish(pubsub)


def test_more_than_1000_messages_are_refused(pubsub):
    pubsub.create()
    with pytest.raises(exceptions.InvalidArgument):
        publish(pubsub, *[{"data": b"x"}] * 1001)
    publish(pubsub, *[{"data": b"x"}] * 1000)


@pytest.mark.parametrize(
    "attributes",
    [
        {f"k{n}": "v" for n in range(101)},
        {"": "v"},
        {"k" * 257: "v"},
        {"k": "v" * 1025},
        {"k": "é" * 513},
        {"googclient": "v"},
    ],
    ids=["101", "empty key", "long key", "long value", "long value in bytes", "goog"],
)
def test_attributes_over_the_limits_are_refused(pubsub, differs, attributes):
    differs("takes any attributes")
    pubsub.create()
    with pytest.raises(exceptions.InvalidArgument):
        publish(pubsub, {"data": b"x", "attributes": attributes})


def test_largest_attributes_are_taken(pubsub):
    pubsub.create()
    attributes = {f"{n:03}" + "k" * 253: "v" * 1024 for n in range(100)}
    publish(pubsub, {"attributes": attributes})
    assert dict(pubsub.pull(1)[0].message.attributes) == attributes


def test_message_of_nearly_ten_megabytes_is_taken(pubsub):
    pubsub.create()
    assert publish(pubsub, {"data": b"x" * (MAX_BYTES - 1000)}).message_ids


def test_large_messages_come_in_responses_that_a_client_takes(pubsub, differs):
    differs("puts more than 4 MB into one response")
    pubsub.create()
    body = b"x" * 3_900_000
    for _ in range(3):
        publish(pubsub, {"data": body})
    assert [each.message.data for each in pubsub.pull(3)] == [body] * 3


def test_request_over_ten_megabytes_is_refused(pubsub, differs):
    differs("takes more than 10 MB")
    pubsub.create()
    with pytest.raises(exceptions.InvalidArgument, match="exceeds"):
        publish(pubsub, {"data": b"x" * (MAX_BYTES + 1)})


def test_keys_of_one_request_must_be_one(pubsub, differs):
    differs("takes several ordering keys in one request")
    pubsub.create()
    with pytest.raises(exceptions.InvalidArgument):
        publish(pubsub, {"data": b"x", "ordering_key": "a"}, {"data": b"y", "ordering_key": "b"})
