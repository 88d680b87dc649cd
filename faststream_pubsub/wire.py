"""What travels on the wire: raw protobuf classes and the RPCs of `google.pubsub.v1`.

The proto-plus wrappers of `google.pubsub_v1` cost several times more per message than the
protobuf classes below them, so those are taken out once, here, and used everywhere else.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

# protobuf builds its classes at run time and grpc.aio is untyped, so a checker can't see them
Proto: TypeAlias = Any
Channel: TypeAlias = Any
Unary: TypeAlias = Callable[..., Awaitable[Proto]]

AcknowledgeRequest: Final[Proto] = types.AcknowledgeRequest.pb()
CommitSchemaRequest: Final[Proto] = types.CommitSchemaRequest.pb()
CreateSchemaRequest: Final[Proto] = types.CreateSchemaRequest.pb()
DeadLetterPolicy: Final[Proto] = types.DeadLetterPolicy.pb()
DeleteSubscriptionRequest: Final[Proto] = types.DeleteSubscriptionRequest.pb()
DeleteTopicRequest: Final[Proto] = types.DeleteTopicRequest.pb()
GetSubscriptionRequest: Final[Proto] = types.GetSubscriptionRequest.pb()
GetTopicRequest: Final[Proto] = types.GetTopicRequest.pb()
ListSchemaRevisionsRequest: Final[Proto] = types.ListSchemaRevisionsRequest.pb()
ListSchemaRevisionsResponse: Final[Proto] = types.ListSchemaRevisionsResponse.pb()
ListTopicsRequest: Final[Proto] = types.ListTopicsRequest.pb()
ListTopicsResponse: Final[Proto] = types.ListTopicsResponse.pb()
ModifyAckDeadlineRequest: Final[Proto] = types.ModifyAckDeadlineRequest.pb()
PublishRequest: Final[Proto] = types.PublishRequest.pb()
PublishResponse: Final[Proto] = types.PublishResponse.pb()
PubsubMessage: Final[Proto] = types.PubsubMessage.pb()
ReceivedMessage: Final[Proto] = types.ReceivedMessage.pb()
RetryPolicy: Final[Proto] = types.RetryPolicy.pb()
Schema: Final[Proto] = types.Schema.pb()
StreamingPullRequest: Final[Proto] = types.StreamingPullRequest.pb()
StreamingPullResponse: Final[Proto] = types.StreamingPullResponse.pb()
Subscription: Final[Proto] = types.Subscription.pb()
Topic: Final[Proto] = types.Topic.pb()
UpdateSubscriptionRequest: Final[Proto] = types.UpdateSubscriptionRequest.pb()
UpdateTopicRequest: Final[Proto] = types.UpdateTopicRequest.pb()

AVRO: Final = int(types.Schema.Type.AVRO)
FULL_SCHEMA: Final = int(types.SchemaView.FULL)
JSON_ENCODING: Final = int(types.Encoding.JSON)

MAX_REQUEST_BYTES: Final = 10_000_000
"""The service's limit for one Publish request, and so for one message."""
MAX_PUBLISH_MESSAGES: Final = 1_000
_LENGTH_DELIMITED: Final = 2
MAX_ACK_IDS: Final = 2_500
"""Keeps an Acknowledge request under the service's 512 KiB."""

TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    },
)
"""Codes after which the same call may succeed (https://cloud.google.com/pubsub/docs/reference/error-codes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpcs:
    """The calls this package makes, bound to one channel."""

    create_topic: Unary
    get_topic: Unary
    update_topic: Unary
    delete_topic: Unary
    list_topics: Unary
    publish: Unary
    create_subscription: Unary
    get_subscription: Unary
    update_subscription: Unary
    delete_subscription: Unary
    create_schema: Unary
    commit_schema: Unary
    list_schema_revisions: Unary
    acknowledge: Unary
    modify_ack_deadline: Unary
    streaming_pull: Callable[..., Any]


# Publish takes what publish_request makes
_UNARY: Final[dict[str, tuple[str, Proto | None, Proto]]] = {
    "create_topic": ("Publisher/CreateTopic", Topic, Topic),
    "get_topic": ("Publisher/GetTopic", GetTopicRequest, Topic),
    "update_topic": ("Publisher/UpdateTopic", UpdateTopicRequest, Topic),
    "delete_topic": ("Publisher/DeleteTopic", DeleteTopicRequest, Empty),
    "list_topics": ("Publisher/ListTopics", ListTopicsRequest, ListTopicsResponse),
    "publish": ("Publisher/Publish", None, PublishResponse),
    "create_subscription": ("Subscriber/CreateSubscription", Subscription, Subscription),
    "get_subscription": ("Subscriber/GetSubscription", GetSubscriptionRequest, Subscription),
    "update_subscription": (
        "Subscriber/UpdateSubscription",
        UpdateSubscriptionRequest,
        Subscription,
    ),
    "delete_subscription": ("Subscriber/DeleteSubscription", DeleteSubscriptionRequest, Empty),
    "create_schema": ("SchemaService/CreateSchema", CreateSchemaRequest, Schema),
    "commit_schema": ("SchemaService/CommitSchema", CommitSchemaRequest, Schema),
    "list_schema_revisions": (
        "SchemaService/ListSchemaRevisions",
        ListSchemaRevisionsRequest,
        ListSchemaRevisionsResponse,
    ),
    "acknowledge": ("Subscriber/Acknowledge", AcknowledgeRequest, Empty),
    "modify_ack_deadline": ("Subscriber/ModifyAckDeadline", ModifyAckDeadlineRequest, Empty),
}


def bind(channel: Channel) -> Rpcs:
    """Bind the RPCs to a `grpc.aio.Channel`."""
    streaming_pull = channel.stream_stream(
        _path("Subscriber/StreamingPull"),
        request_serializer=StreamingPullRequest.SerializeToString,
        response_deserializer=StreamingPullResponse.FromString,
    )
    unary = {
        field.name: _bind_unary(channel, *_UNARY[field.name])
        for field in fields(Rpcs)
        if field.name in _UNARY
    }
    return Rpcs(streaming_pull=streaming_pull, **unary)


def publish_request(topic: str, messages: Iterable[bytes]) -> bytes:
    """Serialize a `PublishRequest` from messages that are serialized already.

    A field of message type is its bytes behind a tag and a length
    (https://protobuf.dev/programming-guides/encoding/#length-types). To copy 1,000 messages of 1
    KiB into a request and serialize that takes ten times as long.
    """
    parts = [PublishRequest(topic=topic).SerializeToString()]
    for message in messages:
        parts.append(_messages_head(len(message)))
        parts.append(message)
    return b"".join(parts)


@lru_cache(maxsize=4_096)
def _messages_head(size: int) -> bytes:
    head = bytearray((PublishRequest.MESSAGES_FIELD_NUMBER << 3 | _LENGTH_DELIMITED,))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)


def _bind_unary(channel: Channel, method: str, request: Proto | None, response: Proto) -> Unary:
    bound: Unary = channel.unary_unary(
        _path(method),
        request_serializer=bytes if request is None else request.SerializeToString,
        response_deserializer=response.FromString,
    )
    return bound


def _path(method: str) -> str:
    return f"/google.pubsub.v1.{method}"
