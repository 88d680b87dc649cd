"""gRPC: which method of which service is served by what, and errors as statuses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyProto
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from embedded_pubsub import protos
from embedded_pubsub.errors import InvalidArgumentError, PubSubError, StaleAckIdError
from embedded_pubsub.protos import Proto
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.services import Publisher, Subscriber
from embedded_pubsub.streaming import Stream

Method = Callable[[Proto], Awaitable[Proto]]
Context: TypeAlias = grpc.aio.ServicerContext


def handlers(runtime: Runtime) -> list[grpc.GenericRpcHandler]:
    """Give the handlers of all that is served, and one that refuses the rest."""
    publisher, subscriber = Publisher(runtime), Subscriber(runtime)
    publisher_methods = {
        "CreateTopic": _unary(protos.Topic, publisher.create_topic),
        "UpdateTopic": _unary(protos.UpdateTopicRequest, publisher.update_topic),
        "Publish": _unary(protos.PublishRequest, publisher.publish),
        "GetTopic": _unary(protos.GetTopicRequest, publisher.get_topic),
        "ListTopics": _unary(protos.ListTopicsRequest, publisher.list_topics),
        "ListTopicSubscriptions": _unary(
            protos.ListTopicSubscriptionsRequest, publisher.list_topic_subscriptions
        ),
        "ListTopicSnapshots": _unary(
            protos.ListTopicSnapshotsRequest, publisher.list_topic_snapshots
        ),
        "DeleteTopic": _unary(protos.DeleteTopicRequest, publisher.delete_topic),
        "DetachSubscription": _unary(
            protos.DetachSubscriptionRequest, publisher.detach_subscription
        ),
    }
    subscriber_methods = {
        "CreateSubscription": _unary(protos.Subscription, subscriber.create_subscription),
        "GetSubscription": _unary(protos.GetSubscriptionRequest, subscriber.get_subscription),
        "UpdateSubscription": _unary(
            protos.UpdateSubscriptionRequest, subscriber.update_subscription
        ),
        "ListSubscriptions": _unary(protos.ListSubscriptionsRequest, subscriber.list_subscriptions),
        "DeleteSubscription": _unary(
            protos.DeleteSubscriptionRequest, subscriber.delete_subscription
        ),
        "Pull": _pull(subscriber),
        "StreamingPull": _streaming_pull(runtime),
        "Acknowledge": _unary(protos.AcknowledgeRequest, subscriber.acknowledge),
        "ModifyAckDeadline": _unary(
            protos.ModifyAckDeadlineRequest, subscriber.modify_ack_deadline
        ),
        "Seek": _unary(protos.SeekRequest, subscriber.seek),
        "CreateSnapshot": _unary(protos.CreateSnapshotRequest, subscriber.create_snapshot),
        "GetSnapshot": _unary(protos.GetSnapshotRequest, subscriber.get_snapshot),
        "ListSnapshots": _unary(protos.ListSnapshotsRequest, subscriber.list_snapshots),
        "UpdateSnapshot": _unary(protos.UpdateSnapshotRequest, subscriber.update_snapshot),
        "DeleteSnapshot": _unary(protos.DeleteSnapshotRequest, subscriber.delete_snapshot),
    }
    return [
        grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher_methods),
        grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber_methods),
        _Unserved(),
    ]


class _Unserved(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc comes without types
    """Answers every other method with UNIMPLEMENTED and a word on why."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method

        async def refuse(_: bytes, context: Context) -> NoReturn:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"{method} is not served by embedded_pubsub."
            )
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(refuse)


def _unary(request_class: type[Proto], method: Method) -> grpc.RpcMethodHandler:
    async def handle(request: Proto, context: Context) -> Proto:
        try:
            return await method(request)
        except PubSubError as error:
            await _abort(context, error)

    return grpc.unary_unary_rpc_method_handler(handle, request_class.FromString, _serialize)


def _pull(subscriber: Subscriber) -> grpc.RpcMethodHandler:
    async def handle(request: Proto, context: Context) -> bytes:
        try:
            return await subscriber.pull(request, context.time_remaining())
        except PubSubError as error:
            await _abort(context, error)

    return grpc.unary_unary_rpc_method_handler(handle, protos.PullRequest.FromString)


def _streaming_pull(runtime: Runtime) -> grpc.RpcMethodHandler:
    async def handle(requests: AsyncIterator[Proto], context: Context) -> None:
        try:
            first = await anext(aiter(requests), None)
            if first is None:
                raise InvalidArgumentError("subscription: the stream ended without a request.")
            await Stream(runtime, first).run(requests, context)
        except PubSubError as error:
            await _abort(context, error)

    return grpc.stream_stream_rpc_method_handler(handle, protos.StreamingPullRequest.FromString)


def _serialize(message: Any) -> bytes:  # noqa: ANN401 - raw protobuf classes have no types
    return bytes(message.SerializeToString())


async def _abort(context: Context, error: PubSubError) -> NoReturn:
    """End the call with the error's status; the details are what exactly-once clients read."""
    trailers: tuple[tuple[str, bytes], ...] = ()
    if isinstance(error, StaleAckIdError):
        detail = AnyProto()
        detail.Pack(
            ErrorInfo(
                reason="EXACTLY_ONCE_ACKID_FAILURE",
                domain="pubsub.googleapis.com",
                metadata=dict(error.failures),
            )
        )
        status = Status(code=Code.Value(error.code), message=str(error), details=[detail])
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(grpc.StatusCode[error.code], str(error), trailers)
    raise AssertionError("abort raises")
