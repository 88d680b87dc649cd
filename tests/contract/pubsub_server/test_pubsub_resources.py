"""Topics and subscriptions as resources, by the official clients."""

import sys

import grpc
import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask


def test_topic_is_created_read_and_deleted(pubsub):
    created = pubsub.publisher.create_topic(request={"name": pubsub.topic, "labels": {"a": "b"}})
    assert created.name == pubsub.topic
    assert dict(pubsub.publisher.get_topic(topic=pubsub.topic).labels) == {"a": "b"}
    pubsub.publisher.delete_topic(topic=pubsub.topic)
    with pytest.raises(exceptions.NotFound):
        pubsub.publisher.get_topic(topic=pubsub.topic)


def test_topic_exists_once(pubsub):
    pubsub.create()
    with pytest.raises(exceptions.AlreadyExists):
        pubsub.publisher.create_topic(name=pubsub.topic)
    with pytest.raises(exceptions.AlreadyExists):
        pubsub.subscribe(pubsub.subscription)


@pytest.mark.parametrize("bad", ["ab", "1abc", "goog-topic", "with space", "a" * 256, "a/b"])
def test_bad_topic_ids_are_refused(pubsub, bad):
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publisher.create_topic(name=pubsub.name("topics", bad))


def test_what_does_not_exist_is_not_found(pubsub):
    with pytest.raises(exceptions.NotFound):
        pubsub.publish("x")
    with pytest.raises(exceptions.NotFound):
        pubsub.subscribe(pubsub.subscription)
    with pytest.raises(exceptions.NotFound):
        pubsub.pull(1)
    with pytest.raises(exceptions.NotFound):
        pubsub.subscriber.delete_subscription(subscription=pubsub.subscription)
    with pytest.raises(exceptions.NotFound):
        pubsub.publisher.delete_topic(topic=pubsub.topic)


def test_topic_is_updated_by_mask(pubsub, differs):
    differs("can't update labels")
    pubsub.publisher.create_topic(request={"name": pubsub.topic, "labels": {"a": "b"}})
    topic = {
        "name": pubsub.topic,
        "labels": {"c": "d"},
        "message_retention_duration": {"seconds": 1200},
    }
    mask = FieldMask(paths=["labels"])
    updated = pubsub.publisher.update_topic(request={"topic": topic, "update_mask": mask})
    assert dict(updated.labels) == {"c": "d"}
    assert not updated.message_retention_duration


@pytest.mark.parametrize("path", ["name", "no_such_field"])
def test_mask_of_unknown_or_fixed_fields_is_refused(pubsub, path):
    pubsub.create()
    mask = FieldMask(paths=[path])
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publisher.update_topic(
            request={"topic": {"name": pubsub.topic}, "update_mask": mask}
        )


def test_subscription_is_given_its_defaults(pubsub, differs):
    differs("gives no expiration policy")
    pubsub.create()
    found = pubsub.subscriber.get_subscription(subscription=pubsub.subscription)
    assert found.topic == pubsub.topic
    assert found.ack_deadline_seconds == 10
    assert found.message_retention_duration.days == 7
    assert found.expiration_policy.ttl.days == 31


def test_subscription_is_updated_by_mask(pubsub):
    pubsub.create(ack_deadline_seconds=20)
    changed = {"name": pubsub.subscription, "ack_deadline_seconds": 30}
    pubsub.subscriber.update_subscription(
        request={
            "subscription": changed,
            "update_mask": FieldMask(paths=["ack_deadline_seconds"]),
        }
    )
    found = pubsub.subscriber.get_subscription(subscription=pubsub.subscription)
    assert found.ack_deadline_seconds == 30


@pytest.mark.parametrize("path", ["topic", "filter", "enable_message_ordering"])
def test_fixed_settings_of_a_subscription_stay(pubsub, path):
    pubsub.create()
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscriber.update_subscription(
            request={
                "subscription": {"name": pubsub.subscription},
                "update_mask": FieldMask(paths=[path]),
            }
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"ack_deadline_seconds": 601},
        {"message_retention_duration": {"seconds": 599}},
        {"retry_policy": {"minimum_backoff": {"seconds": 601}}},
        {
            "retry_policy": {
                "minimum_backoff": {"seconds": 20},
                "maximum_backoff": {"seconds": 10},
            }
        },
    ],
)
def test_settings_out_of_range_are_refused(pubsub, settings):
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.create(**settings)


def test_ack_deadline_under_ten_seconds_is_refused(pubsub, differs):
    differs("takes any ack deadline up to 600 s")
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.create(ack_deadline_seconds=9)


@pytest.mark.parametrize("attempts", [4, 101])
def test_delivery_attempts_out_of_range_are_refused(pubsub, attempts):
    policy = {"dead_letter_topic": pubsub.topic, "max_delivery_attempts": attempts}
    with pytest.raises(exceptions.OutOfRange):
        pubsub.create(dead_letter_policy=policy)


def test_invalid_filter_is_refused(pubsub, differs):
    differs("ignores filters")
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.create(filter="attributes.a = unquoted")


def test_deleted_topic_leaves_its_subscriptions(pubsub):
    pubsub.create()
    pubsub.publish("kept")
    pubsub.publisher.delete_topic(topic=pubsub.topic)
    found = pubsub.subscriber.get_subscription(subscription=pubsub.subscription)
    assert found.topic == "_deleted-topic_"
    (received,) = pubsub.pull(1)
    assert received.message.data == b"kept"


def test_new_topic_of_an_old_name_does_not_feed_old_subscriptions(pubsub):
    pubsub.create()
    pubsub.publisher.delete_topic(topic=pubsub.topic)
    pubsub.publisher.create_topic(name=pubsub.topic)
    pubsub.publish("not for it")
    assert pubsub.pull(now=True) == []


def test_lists_come_in_pages(pubsub):
    names = [pubsub.name("topics", f"topic-{n}") for n in range(5)]
    for name in names:
        pubsub.publisher.create_topic(name=name)
    pager = pubsub.publisher.list_topics(
        request={"project": f"projects/{pubsub.project}", "page_size": 2}
    )
    pages = [[topic.name for topic in page.topics] for page in pager.pages]
    assert sorted(name for page in pages for name in page) == names
    assert [len(page) for page in pages] == [2, 2, 1]


def test_lists_hold_a_projects_own_and_a_topics_own(pubsub):
    pubsub.create()
    other = pubsub.name("topics", "other")
    pubsub.publisher.create_topic(name=other)
    pubsub.subscribe(pubsub.name("subscriptions", "of-other"), topic=other)
    listed = pubsub.publisher.list_topic_subscriptions(topic=pubsub.topic)
    assert list(listed) == [pubsub.subscription]
    project = f"projects/{pubsub.project}"
    subscriptions = pubsub.subscriber.list_subscriptions(project=project)
    assert {each.name for each in subscriptions} == {
        pubsub.subscription,
        pubsub.name("subscriptions", "of-other"),
    }
    assert list(pubsub.publisher.list_topics(project=f"{project}-none")) == []


def test_detached_subscription_gives_nothing_more(pubsub, differs):
    differs("has no DetachSubscription")
    pubsub.create()
    pubsub.publish("dropped")
    pubsub.publisher.detach_subscription(request={"subscription": pubsub.subscription})
    assert pubsub.subscriber.get_subscription(subscription=pubsub.subscription).detached
    assert list(pubsub.publisher.list_topic_subscriptions(topic=pubsub.topic)) == []
    with pytest.raises(exceptions.FailedPrecondition):
        pubsub.pull(1)


def test_without_v8_message_transforms_are_refused(pubsub, kind, monkeypatch):
    if kind == "google":
        pytest.skip("our own limits")
    monkeypatch.setitem(sys.modules, "py_mini_racer", None)
    udf = {"function_name": "f", "code": f"function f() {{ return '{pubsub.project}'; }}"}
    transforms = [{"javascript_udf": udf}]
    with pytest.raises(exceptions.MethodNotImplemented, match="mini-racer"):
        pubsub.publisher.create_topic(
            request={"name": pubsub.topic, "message_transforms": transforms}
        )
    with pytest.raises(exceptions.MethodNotImplemented, match="mini-racer"):
        pubsub.create(message_transforms=transforms)


def test_methods_that_are_not_served_say_so(kind, target):
    if kind == "google":
        pytest.skip("our own limits")
    refusal = pytest.raises(grpc.RpcError, match=r"Service/Method is not served")
    with grpc.insecure_channel(target) as channel, refusal:
        channel.unary_unary("/no.such.Service/Method")(b"")
