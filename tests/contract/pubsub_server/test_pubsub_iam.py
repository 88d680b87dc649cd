"""IAM policies, by the official clients."""

import grpc
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import SchemaServiceClient
from google.pubsub_v1.types import Schema

BINDINGS = [{"role": "roles/pubsub.publisher", "members": ["user:ada@example.com"]}]


@pytest.fixture(autouse=True)
def no_iam_there(differs, request):
    if request.node.name.partition("[")[0] != "test_what_does_not_exist_has_no_policy":
        differs("has no IAM")


@pytest.fixture
def resources(pubsub, target):
    pubsub.create()
    snapshot = pubsub.name("snapshots", "snapshot")
    pubsub.subscriber.create_snapshot(name=snapshot, subscription=pubsub.subscription)
    definition = '{"type": "record", "name": "R", "fields": []}'
    with grpc.insecure_channel(target) as channel:
        transport = SchemaServiceClient.get_transport_class("grpc")(channel=channel)
        schema = SchemaServiceClient(transport=transport).create_schema(
            parent=f"projects/{pubsub.project}",
            schema=Schema(type_=Schema.Type.AVRO, definition=definition),
            schema_id="schema",
        )
    return [pubsub.topic, pubsub.subscription, snapshot, schema.name]


def test_policy_is_kept_for_every_kind_of_resource(pubsub, resources):
    client = pubsub.publisher
    for resource in resources:
        assert not client.get_iam_policy(request={"resource": resource}).bindings
        policy = {"bindings": BINDINGS}
        kept = client.set_iam_policy(request={"resource": resource, "policy": policy})
        found = client.get_iam_policy(request={"resource": resource})
        assert found == kept
        assert found.bindings[0].members == ["user:ada@example.com"]


def test_stale_etag_is_refused(pubsub):
    pubsub.publisher.create_topic(name=pubsub.topic)
    client = pubsub.publisher
    first = client.get_iam_policy(request={"resource": pubsub.topic})
    mine = {"bindings": BINDINGS, "etag": first.etag}
    client.set_iam_policy(request={"resource": pubsub.topic, "policy": mine})
    with pytest.raises(exceptions.Aborted, match="etag"):
        client.set_iam_policy(request={"resource": pubsub.topic, "policy": mine})


def test_policy_goes_with_its_resource(pubsub):
    client = pubsub.publisher
    for _ in range(2):
        client.create_topic(name=pubsub.topic)
        assert not client.get_iam_policy(request={"resource": pubsub.topic}).bindings
        client.set_iam_policy(request={"resource": pubsub.topic, "policy": {"bindings": BINDINGS}})
        client.delete_topic(topic=pubsub.topic)


def test_everybody_may_do_what_is_asked_for(pubsub):
    pubsub.publisher.create_topic(name=pubsub.topic)
    request = {"resource": pubsub.topic, "permissions": ["pubsub.topics.publish"]}
    granted = pubsub.publisher.test_iam_permissions(request=request)
    assert granted.permissions == ["pubsub.topics.publish"]


def test_what_does_not_exist_has_no_policy(pubsub):
    with pytest.raises((exceptions.NotFound, exceptions.MethodNotImplemented)):
        pubsub.publisher.get_iam_policy(request={"resource": pubsub.topic})
