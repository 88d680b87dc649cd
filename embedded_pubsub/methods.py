"""What is served: every method by its gRPC name, with its HTTP bindings.

Source of the bindings: the `google.api.http` annotations of google/pubsub/v1 and google/iam/v1,
as the API reference shows them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from embedded_pubsub import protos
from embedded_pubsub.protos import Proto
from embedded_pubsub.resource_services import IamPolicy, SchemaService
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.services import Publisher, Subscriber

Handler = Callable[[Proto], Awaitable[Proto]]
Call = Callable[[Proto, float | None], Awaitable[Proto | bytes]]


class Http(NamedTuple):
    """An HTTP binding: `body` is a field of the request, `*` for all of it, or nothing."""

    verb: str
    path: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """A unary method: `call` takes the request and the seconds that the caller waits."""

    service: str
    name: str
    request: type[Proto]
    response: type[Proto]
    call: Call
    http: tuple[Http, ...]


_TOPIC = "{topic=projects/*/topics/*}"
_SUBSCRIPTION = "{subscription=projects/*/subscriptions/*}"
_SNAPSHOT = "{snapshot=projects/*/snapshots/*}"
_SCHEMA = "{name=projects/*/schemas/*}"
_COLLECTIONS = ("topics", "subscriptions", "snapshots", "schemas")


def methods(runtime: Runtime) -> list[Method]:
    """Give all unary methods of a running server."""
    subscriber = Subscriber(runtime)
    return [
        *_publisher(Publisher(runtime)),
        *_subscriber(subscriber),
        Method(
            "google.pubsub.v1.Subscriber",
            "Pull",
            protos.PullRequest,
            protos.PullResponse,
            subscriber.pull,
            (Http("POST", f"{_SUBSCRIPTION}:pull", "*"),),
        ),
        *_schemas(SchemaService(runtime)),
        *_policies(IamPolicy(runtime)),
    ]


def rest_methods(runtime: Runtime) -> list[Method]:
    """Give the methods that Google serves over REST alone."""
    # Loaded where it is asked for, with the rest of what HTTP needs.
    from embedded_pubsub import transform_service as t  # noqa: PLC0415 - as said above

    def method(
        name: str, request: type[Proto], response: type[Proto], call: Handler, *http: Http
    ) -> Method:
        return _method("projects", name, request, response, call, *http)

    service = t.TransformService(runtime)
    return [
        method("ValidateMessageTransform", t.ValidateMessageTransformRequest,
               t.ValidateMessageTransformResponse, service.validate,
               Http("POST", "{project=projects/*}:validateMessageTransform", "*")),
        method("TestMessageTransforms", t.TestMessageTransformsRequest,
               t.TestMessageTransformsResponse, service.test,
               Http("POST", "{project=projects/*}:testMessageTransforms", "*")),
    ]  # fmt: skip


def _publisher(publisher: Publisher) -> list[Method]:
    def method(
        name: str, request: type[Proto], response: type[Proto], call: Handler, *http: Http
    ) -> Method:
        return _method("google.pubsub.v1.Publisher", name, request, response, call, *http)

    p = protos
    return [
        method("CreateTopic", p.Topic, p.Topic, publisher.create_topic,
               Http("PUT", "{name=projects/*/topics/*}", "*")),
        method("UpdateTopic", p.UpdateTopicRequest, p.Topic, publisher.update_topic,
               Http("PATCH", "{topic.name=projects/*/topics/*}", "*")),
        method("Publish", p.PublishRequest, p.PublishResponse, publisher.publish,
               Http("POST", f"{_TOPIC}:publish", "*")),
        method("GetTopic", p.GetTopicRequest, p.Topic, publisher.get_topic,
               Http("GET", _TOPIC)),
        method("ListTopics", p.ListTopicsRequest, p.ListTopicsResponse, publisher.list_topics,
               Http("GET", "{project=projects/*}/topics")),
        method("ListTopicSubscriptions", p.ListTopicSubscriptionsRequest,
               p.ListTopicSubscriptionsResponse, publisher.list_topic_subscriptions,
               Http("GET", f"{_TOPIC}/subscriptions")),
        method("ListTopicSnapshots", p.ListTopicSnapshotsRequest, p.ListTopicSnapshotsResponse,
               publisher.list_topic_snapshots, Http("GET", f"{_TOPIC}/snapshots")),
        method("DeleteTopic", p.DeleteTopicRequest, p.Empty, publisher.delete_topic,
               Http("DELETE", _TOPIC)),
        method("DetachSubscription", p.DetachSubscriptionRequest, p.DetachSubscriptionResponse,
               publisher.detach_subscription, Http("POST", f"{_SUBSCRIPTION}:detach")),
    ]  # fmt: skip


def _subscriber(subscriber: Subscriber) -> list[Method]:
    def method(
        name: str, request: type[Proto], response: type[Proto], call: Handler, *http: Http
    ) -> Method:
        return _method("google.pubsub.v1.Subscriber", name, request, response, call, *http)

    p = protos
    return [
        method("CreateSubscription", p.Subscription, p.Subscription,
               subscriber.create_subscription,
               Http("PUT", "{name=projects/*/subscriptions/*}", "*")),
        method("GetSubscription", p.GetSubscriptionRequest, p.Subscription,
               subscriber.get_subscription, Http("GET", _SUBSCRIPTION)),
        method("UpdateSubscription", p.UpdateSubscriptionRequest, p.Subscription,
               subscriber.update_subscription,
               Http("PATCH", "{subscription.name=projects/*/subscriptions/*}", "*")),
        method("ListSubscriptions", p.ListSubscriptionsRequest, p.ListSubscriptionsResponse,
               subscriber.list_subscriptions, Http("GET", "{project=projects/*}/subscriptions")),
        method("DeleteSubscription", p.DeleteSubscriptionRequest, p.Empty,
               subscriber.delete_subscription, Http("DELETE", _SUBSCRIPTION)),
        method("Acknowledge", p.AcknowledgeRequest, p.Empty, subscriber.acknowledge,
               Http("POST", f"{_SUBSCRIPTION}:acknowledge", "*")),
        method("ModifyAckDeadline", p.ModifyAckDeadlineRequest, p.Empty,
               subscriber.modify_ack_deadline,
               Http("POST", f"{_SUBSCRIPTION}:modifyAckDeadline", "*")),
        method("ModifyPushConfig", p.ModifyPushConfigRequest, p.Empty,
               subscriber.modify_push_config,
               Http("POST", f"{_SUBSCRIPTION}:modifyPushConfig", "*")),
        method("Seek", p.SeekRequest, p.SeekResponse, subscriber.seek,
               Http("POST", f"{_SUBSCRIPTION}:seek", "*")),
        method("CreateSnapshot", p.CreateSnapshotRequest, p.Snapshot,
               subscriber.create_snapshot, Http("PUT", "{name=projects/*/snapshots/*}", "*")),
        method("GetSnapshot", p.GetSnapshotRequest, p.Snapshot, subscriber.get_snapshot,
               Http("GET", _SNAPSHOT)),
        method("ListSnapshots", p.ListSnapshotsRequest, p.ListSnapshotsResponse,
               subscriber.list_snapshots, Http("GET", "{project=projects/*}/snapshots")),
        method("UpdateSnapshot", p.UpdateSnapshotRequest, p.Snapshot, subscriber.update_snapshot,
               Http("PATCH", "{snapshot.name=projects/*/snapshots/*}", "*")),
        method("DeleteSnapshot", p.DeleteSnapshotRequest, p.Empty, subscriber.delete_snapshot,
               Http("DELETE", _SNAPSHOT)),
    ]  # fmt: skip


def _schemas(schemas: SchemaService) -> list[Method]:
    def method(
        name: str, request: type[Proto], response: type[Proto], call: Handler, *http: Http
    ) -> Method:
        return _method("google.pubsub.v1.SchemaService", name, request, response, call, *http)

    p = protos
    return [
        method("CreateSchema", p.CreateSchemaRequest, p.Schema, schemas.create_schema,
               Http("POST", "{parent=projects/*}/schemas", "schema")),
        method("GetSchema", p.GetSchemaRequest, p.Schema, schemas.get_schema,
               Http("GET", _SCHEMA)),
        method("ListSchemas", p.ListSchemasRequest, p.ListSchemasResponse, schemas.list_schemas,
               Http("GET", "{parent=projects/*}/schemas")),
        method("ListSchemaRevisions", p.ListSchemaRevisionsRequest,
               p.ListSchemaRevisionsResponse, schemas.list_schema_revisions,
               Http("GET", f"{_SCHEMA}:listRevisions")),
        method("CommitSchema", p.CommitSchemaRequest, p.Schema, schemas.commit_schema,
               Http("POST", f"{_SCHEMA}:commit", "*")),
        method("RollbackSchema", p.RollbackSchemaRequest, p.Schema, schemas.rollback_schema,
               Http("POST", f"{_SCHEMA}:rollback", "*")),
        method("DeleteSchemaRevision", p.DeleteSchemaRevisionRequest, p.Schema,
               schemas.delete_schema_revision, Http("DELETE", f"{_SCHEMA}:deleteRevision")),
        method("DeleteSchema", p.DeleteSchemaRequest, p.Empty, schemas.delete_schema,
               Http("DELETE", _SCHEMA)),
        method("ValidateSchema", p.ValidateSchemaRequest, p.ValidateSchemaResponse,
               schemas.validate_schema, Http("POST", "{parent=projects/*}/schemas:validate", "*")),
        method("ValidateMessage", p.ValidateMessageRequest, p.ValidateMessageResponse,
               schemas.validate_message,
               Http("POST", "{parent=projects/*}/schemas:validateMessage", "*")),
    ]  # fmt: skip


def _policies(policies: IamPolicy) -> list[Method]:
    def method(
        name: str, request: type[Proto], response: type[Proto], call: Handler, verb: str, body: str
    ) -> Method:
        suffix = f"{name[0].lower()}{name[1:]}"
        http = [
            Http(verb, f"{{resource=projects/*/{collection}/*}}:{suffix}", body)
            for collection in _COLLECTIONS
        ]
        return _method("google.iam.v1.IAMPolicy", name, request, response, call, *http)

    p = protos
    return [
        method("SetIamPolicy", p.SetIamPolicyRequest, p.Policy, policies.set_iam_policy,
               "POST", "*"),
        method("GetIamPolicy", p.GetIamPolicyRequest, p.Policy, policies.get_iam_policy,
               "GET", ""),
        method("TestIamPermissions", p.TestIamPermissionsRequest, p.TestIamPermissionsResponse,
               policies.test_iam_permissions, "POST", "*"),
    ]  # fmt: skip


def _method(
    service: str,
    name: str,
    request: type[Proto],
    response: type[Proto],
    handler: Handler,
    *http: Http,
) -> Method:
    def call(message: Proto, _: float | None) -> Awaitable[Proto]:
        return handler(message)

    return Method(service, name, request, response, call, http)
