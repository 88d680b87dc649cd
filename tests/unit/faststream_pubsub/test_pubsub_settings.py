import re

import pytest
from faststream.exceptions import SetupError

from faststream_pubsub import (
    ConnectError,
    InvalidMessageError,
    PubSubBatchMessage,
    PubSubBroker,
    PubSubMessage,
    PubSubRouter,
    RetryPolicy,
    TestPubSubBroker,
)
from faststream_pubsub.connection import Address, resolve_address
from faststream_pubsub.names import add_prefix, default_subscription, resource_path
from faststream_pubsub.publishing import build_message


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("ack_deadline_seconds", 9, "10 to 600"),
        ("ack_deadline_seconds", 601, "10 to 600"),
        ("max_delivery_attempts", 4, "5 to 100"),
        ("max_lease_seconds", 8 * 86_400, "1 to 604800"),
        ("max_bytes", 2**41, "1 to"),
        ("max_delivery_attempts", 101, "5 to 100"),
        ("max_messages", 0, "1 to"),
        ("max_bytes", 0, "1 to"),
        ("max_workers", 0, "1 to"),
        ("max_lease_seconds", 0, "1 to"),
        ("max_workers", 1_001, "max_messages"),
        ("max_silence_seconds", 0, "1 to 86400"),
        ("ack_deadline_seconds", "20", "no number: 10 to 600"),
        ("max_workers", True, "no number: 1 to 10000"),
        ("max_delivery_attempts", 7, "dead_letter_topic"),
        ("max_batch_size", 7, "batch=True"),
        ("max_batch_wait_seconds", 7, "batch=True"),
        ("retry_policy", 7, "RetryPolicy"),
        ("dead_letter_topic", "topic", "own topic"),
        ("filter", "x" * 257, "256"),
        ("filter", 7, "must be text"),
        ("ack_deadline_seconds", 10.5, "no whole number: 10 to 600"),
        ("max_workers", 2.5, "no whole number"),
        ("enable_message_ordering", "yes", "True or False"),
        ("ack_policy", "ack", "AckPolicy"),
        ("subscription", 7, "must be text"),
        ("dead_letter_topic", 7, "must be text"),
    ],
)
def test_wrong_setting_is_an_error_at_declaration(setting, value, allowed):
    with pytest.raises(SetupError, match=rf"{setting}.*{allowed}"):
        PubSubBroker().subscriber("topic", **{setting: value})


@pytest.mark.parametrize(
    ("settings", "leased"),
    [
        ({}, 1_000),
        ({"batch": True}, 1_000),
        ({"batch": True, "max_batch_size": 500}, 4_000),
        ({"batch": True, "max_batch_size": 1_000_000}, 1_000_000),
        ({"batch": True, "max_batch_size": 500, "max_messages": 600}, 600),
    ],
)
def test_some_batches_are_leased_ahead_unless_said_otherwise(settings, leased):
    assert PubSubBroker().subscriber("topic", **settings).settings.max_messages == leased


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_batch_size": 0}, "max_batch_size=0.*1 to 1000"),
        ({"max_batch_size": 11, "max_messages": 10}, "max_batch_size=11.*1 to 10"),
        ({"max_batch_wait_seconds": 61}, "max_batch_wait_seconds=61.*0 to 60"),
        ({"enable_message_ordering": True, "max_workers": 2}, "batch=True.*max_workers=1"),
    ],
)
def test_wrong_batch_setting_is_an_error_at_declaration(settings, told):
    with pytest.raises(SetupError, match=told):
        PubSubBroker().subscriber("topic", batch=True, **settings)


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("publish_patience_seconds", -1, "0 to 600"),
        ("publish_compression_bytes", -1, "0 to 10000000"),
        ("graceful_timeout", -1, "0 to 86400"),
        ("graceful_timeout", "15", "no number"),
        ("publish_batching", 7, "PublishBatching"),
        ("publish_flow", 7, "PublishFlow"),
    ],
)
def test_wrong_setting_of_the_broker_is_an_error(setting, value, allowed):
    with pytest.raises(SetupError, match=rf"{setting}=.*{allowed}"):
        PubSubBroker(**{setting: value})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ordering_key": 7}, "ordering_key=7"),
        ({"ordering_key": "k" * 1_025}, "1025 bytes"),
        ({"attributes": {"k": None}}, "'k' is None"),
        ({"headers": {"k": "v" * 1_025}}, "1025 bytes"),
        ({"reply_to": "no/name"}, "no/name"),
    ],
)
def test_wrong_publisher_is_an_error_at_declaration(settings, told):
    with pytest.raises(SetupError, match=told):
        PubSubBroker().publisher("topic", **settings)


@pytest.mark.parametrize("host", ["http://localhost:8085", "localhost"])
async def test_address_that_is_none_is_an_error_at_once(host, monkeypatch):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    for broker, source in (
        (PubSubBroker(), "PUBSUB_EMULATOR_HOST"),
        (PubSubBroker(emulator_host=host), "emulator_host"),
        (PubSubBroker(target=host), "target"),
    ):
        with pytest.raises(ConnectError, match=rf"{source}='{host}'.*host:port"):
            await broker.connect()


WRONG_NAMES = [7, "ab", "goog-a", "a b c", "x" * 256, "projects/p/topic/t"]


@pytest.mark.parametrize("wrong", WRONG_NAMES)
def test_wrong_name_is_an_error_at_declaration(wrong):
    broker = PubSubBroker()
    for declare in (
        lambda: broker.subscriber(wrong, subscription="sub"),
        lambda: broker.subscriber("topic", subscription=wrong),
        lambda: broker.subscriber("topic", dead_letter_topic=wrong),
        lambda: broker.publisher(wrong),
    ):
        with pytest.raises(SetupError, match=re.escape(str(wrong))):
            declare()


def test_name_of_a_router_is_whole_with_all_prefixes():
    router = PubSubRouter("shop-")
    router.subscriber("ab", subscription="goog")
    PubSubBroker().include_router(router)

    for wrong in ("a b", "a/b"):
        with pytest.raises(SetupError, match=wrong):
            router.subscriber(wrong)

    with pytest.raises(SetupError, match="goog-shop-ab"):
        PubSubBroker().include_router(router, prefix="goog-")
    outer = PubSubRouter("goog-")
    outer.include_router(router)
    with pytest.raises(SetupError, match="goog-shop-ab"):
        PubSubBroker(routers=[outer])


async def test_publishers_of_routers_are_checked_when_the_broker_starts():
    router = PubSubRouter("goog-")
    router.publisher("topic")
    broker = PubSubBroker(routers=[router], emulator_host="127.0.0.1:1")
    with pytest.raises(SetupError, match="goog-topic"):
        await broker.start()


def test_retry_policy_names_what_is_wrong():
    with pytest.raises(SetupError, match=r"minimum_backoff_seconds=601.*0 to 600"):
        RetryPolicy(minimum_backoff_seconds=601)
    with pytest.raises(SetupError, match=r"minimum_backoff_seconds=20.*maximum_backoff_seconds=5"):
        RetryPolicy(minimum_backoff_seconds=20, maximum_backoff_seconds=5)


def test_subscriber_needs_a_source():
    with pytest.raises(SetupError, match="topic, a subscription"):
        PubSubBroker().subscriber()


def test_settings_reach_the_subscription():
    subscriber = PubSubBroker().subscriber(
        "topic",
        ack_deadline_seconds=20,
        enable_message_ordering=True,
        enable_exactly_once_delivery=True,
        filter='attributes.kind = "a"',
        retry_policy=RetryPolicy(minimum_backoff_seconds=1.5, maximum_backoff_seconds=30),
        dead_letter_topic="topic.dead",
        max_delivery_attempts=7,
    )
    wanted = subscriber.settings.as_subscription(name="n", topic="t", dead_letter_topic="d")
    assert wanted.ack_deadline_seconds == 20
    assert wanted.enable_message_ordering
    assert wanted.enable_exactly_once_delivery
    assert wanted.filter == 'attributes.kind = "a"'
    assert wanted.retry_policy.minimum_backoff.ToMilliseconds() == 1_500
    assert wanted.retry_policy.maximum_backoff.seconds == 30
    assert wanted.dead_letter_policy.dead_letter_topic == "d"
    assert wanted.dead_letter_policy.max_delivery_attempts == 7
    assert subscriber.settings.lease_seconds == 60


def test_names():
    assert resource_path("p", "topics", "abc") == "projects/p/topics/abc"
    assert resource_path("p", "topics", "projects/q/topics/t") == "projects/q/topics/t"
    assert resource_path("p", "topics", "7f3e-1") == "projects/p/topics/id-7f3e-1"
    assert add_prefix("x-", "abc") == "x-abc"
    assert add_prefix("x-", "projects/q/topics/t") == "projects/q/topics/t"
    assert default_subscription("projects/q/topics/t") == "t-sub"


@pytest.mark.parametrize("name", ["ab", "-abc", "a b c", "goog-a", "x" * 256, "1" * 253, ""])
def test_impossible_name_is_refused(name):
    with pytest.raises(SetupError, match="3 to 255"):
        resource_path("p", "topics", name)


@pytest.mark.parametrize(
    ("emulator_host", "target", "environ", "address"),
    [
        ("a:1", "b:2", {"PUBSUB_EMULATOR_HOST": "c:3"}, Address(target="a:1", emulated=True)),
        (None, "b:2", {"PUBSUB_EMULATOR_HOST": "c:3"}, Address(target="b:2", emulated=False)),
        (None, None, {"PUBSUB_EMULATOR_HOST": "c:3"}, Address(target="c:3", emulated=True)),
        (None, None, {}, Address(target="pubsub.googleapis.com:443", emulated=False)),
    ],
)
def test_server_is_picked_from_the_nearest_source(emulator_host, target, environ, address):
    assert resolve_address(emulator_host=emulator_host, target=target, environ=environ) == address


@pytest.mark.parametrize(
    ("data", "attributes", "key", "told"),
    [
        (b"", {}, "", "data or at least one attribute"),
        (b"x", {str(i): "" for i in range(101)}, "", "101 attributes.*100"),
        (b"x", {"": "v"}, "", "0 bytes"),
        (b"x", {"k" * 257: "v"}, "", "257 bytes.*256"),
        (b"x", {"é" * 129: "v"}, "", "258 bytes.*256"),
        (b"x", {"k": "v" * 1_025}, "", "1025 bytes.*1024"),
        (b"x", {}, "k" * 1_025, "ordering_key has 1025 bytes.*1024"),
        (b"x", {}, 7, "ordering_key=7 must be text"),
        (b"x", {"k": "v", 1: "v"}, "", "must be text.*{1: 'v'}"),
        (b"x", {"k": "v", "n": 1}, "", "must be text.*{'n': 1}"),
    ],
)
def test_message_beyond_a_limit_is_named(data, attributes, key, told):
    with pytest.raises(InvalidMessageError, match=told):
        build_message(data, attributes, key)


def test_message_at_the_limits_is_built():
    attributes = {f"{i:0256}": "v" * 1_024 for i in range(100)}
    message = build_message(b"x", attributes, "k" * 1_024)
    assert dict(message.attributes) == attributes


@pytest.mark.parametrize("delay_seconds", [-1, 601])
async def test_nack_delay_out_of_range_is_refused(delay_seconds):
    with pytest.raises(ValueError, match="0 to 600"):
        await PubSubMessage(raw_message=None, body=b"").nack(delay_seconds)


@pytest.mark.parametrize("kind", [PubSubBroker, PubSubMessage, PubSubBatchMessage])
async def test_class_that_is_no_annotation_is_named_with_the_one_that_is(kind):
    broker = PubSubBroker(logger=None)

    @broker.subscriber("topic", batch=kind is PubSubBatchMessage)
    async def read(given: kind) -> None: ...

    with pytest.raises(
        SetupError, match=f"from faststream_pubsub.annotations import {kind.__name__}"
    ):
        async with TestPubSubBroker(broker):
            pass
