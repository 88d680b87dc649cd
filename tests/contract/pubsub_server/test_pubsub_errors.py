"""What an error says beside its code: the field, the resource or the precondition, typed."""

import base64
import json
import urllib.error
import urllib.request

import grpc
import pytest
from google.api_core import exceptions
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from embedded_pubsub import protos
from embedded_pubsub.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from embedded_pubsub.statuses import status_of


@pytest.fixture
def kind():
    return "memory"


def detail_of(refused, kind):
    trailers = dict(refused.value.trailing_metadata())
    status = Status.FromString(trailers["grpc-status-details-bin"])
    assert status.message == refused.value.details()
    (packed,) = status.details
    detail = kind()
    assert packed.Unpack(detail)
    return detail


def call(target, method, request):
    with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/google.pubsub.v1.{method}")(request.SerializeToString())
    return refused


def test_bad_field_is_named(target, pubsub):
    refused = call(
        target, "Publisher/CreateTopic", protos.Topic(name=pubsub.topic, labels={"A": ""})
    )
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = detail_of(refused, error_details_pb2.BadRequest).field_violations
    assert violation.field == "labels"
    assert "'A'" in violation.description


def test_missing_and_present_resources_are_named(target, pubsub):
    request = protos.GetTopicRequest(topic=pubsub.topic)
    refused = call(target, "Publisher/GetTopic", request)
    detail = detail_of(refused, error_details_pb2.ResourceInfo)
    assert (detail.resource_type, detail.resource_name) == (
        "pubsub.googleapis.com/Topic",
        pubsub.topic,
    )
    pubsub.create()
    refused = call(target, "Publisher/CreateTopic", protos.Topic(name=pubsub.topic))
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert detail_of(refused, error_details_pb2.ResourceInfo).resource_name == pubsub.topic


def test_precondition_is_described(target, pubsub):
    pubsub.create(push_config={"push_endpoint": "http://127.0.0.1:9/"})
    request = protos.PullRequest(subscription=pubsub.subscription, max_messages=1)
    refused = call(target, "Subscriber/Pull", request)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    (violation,) = detail_of(refused, error_details_pb2.PreconditionFailure).violations
    assert "pushed" in violation.description


def test_rest_says_the_same(rest_target, pubsub):
    body = json.dumps({"messages": [{"data": base64.b64encode(b"x").decode()}] * 1001}).encode()
    url = f"http://{rest_target}/v1/{pubsub.topic}:publish"
    pubsub.create()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, body), timeout=30)
    with refused.value as error:
        (detail,) = json.loads(error.read())["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == "messages"


@pytest.mark.parametrize(
    ("error", "kinds"),
    [
        (InvalidArgumentError("no field: is named, this is Text"), ["google.rpc.BadRequest"]),
        (NotFoundError("GET /elsewhere is not served"), []),
        (NotFoundError("(resource=projects/p/things/x)"), ["google.rpc.ResourceInfo"]),
        (FailedPreconditionError("not now"), ["google.rpc.PreconditionFailure"]),
        (AbortedError("again"), []),
    ],
)
def test_details_are_of_the_kind_that_fits(error, kinds):
    names = [detail.TypeName() for detail in status_of(error).details]
    assert names == kinds


LABELS = [
    {"A": "b"}, {"a": "B"}, {"1a": "b"}, {"": "b"}, {"a b": "c"}, {"k" * 64: "v"}, {"k": "v" * 64},
    {f"k{n}": "v" for n in range(65)},
]  # fmt: skip


@pytest.mark.parametrize("labels", LABELS)
def test_labels_that_break_the_rules_are_refused(pubsub, labels):
    pubsub.create()
    for create in (
        lambda: pubsub.publisher.create_topic(
            request={"name": pubsub.name("topics", "other"), "labels": labels}
        ),
        lambda: pubsub.subscribe(pubsub.name("subscriptions", "other"), labels=labels),
        lambda: pubsub.subscriber.create_snapshot(
            request={
                "name": pubsub.name("snapshots", "snapshot"),
                "subscription": pubsub.subscription,
                "labels": labels,
            }
        ),
    ):
        with pytest.raises(exceptions.InvalidArgument, match="labels"):
            create()


def test_largest_labels_are_taken(pubsub):
    labels = {f"é{n:02}" + "k" * 60: "ü-_0" + "v" * 59 for n in range(64)}
    created = pubsub.publisher.create_topic(request={"name": pubsub.topic, "labels": labels})
    assert created.labels == labels
