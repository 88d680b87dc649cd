"""The service as this package uses it: retried calls, and topology that is there when needed."""

import asyncio
from collections.abc import Iterable
from typing import Final

import grpc

from faststream_pubsub import forks, wire
from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.backoff import full_jitter
from faststream_pubsub.connection import Connection
from faststream_pubsub.errors import TopologyError
from faststream_pubsub.names import resource_path
from faststream_pubsub.wire import Proto, Rpcs, Unary

CALL_TIMEOUT_SECONDS: Final = 10.0
SETUP_PATIENCE_SECONDS: Final = 30.0


async def with_retry(
    client: "PubSubClient",
    rpc: str,
    request: Proto | bytes,
    *,
    patience_seconds: float,
    timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    compression: grpc.Compression | None = None,
) -> Proto:
    """Call an idempotent RPC again after transient errors, with full jitter.

    Args:
        client: The connection. It may be renewed between two tries.
        rpc: Name of a unary call in `Rpcs`.
        request: Its request.
        patience_seconds: How long to go on trying.
        timeout_seconds: Deadline of each try.
        compression: How to compress the request.

    Raises:
        grpc.aio.AioRpcError: A permanent error, or the last transient one.
    """
    give_up_at = asyncio.get_running_loop().time() + patience_seconds
    for delay_seconds in full_jitter(cap_seconds=5.0):
        try:
            call: Unary = getattr(client.rpcs, rpc)
            return await call(request, timeout=timeout_seconds, compression=compression)
        except grpc.aio.AioRpcError as error:
            if error.code() not in wire.TRANSIENT:
                raise
            if asyncio.get_running_loop().time() + delay_seconds > give_up_at:
                raise
        except asyncio.CancelledError:
            # grpc.aio raises it for calls on a channel that was left for another, too
            if is_being_cancelled():
                raise
        await asyncio.sleep(delay_seconds)
    raise AssertionError("full_jitter never ends")


def is_being_cancelled() -> bool:
    """Tell whether a CancelledError is meant for the current task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class PubSubClient:
    """One connection to Pub/Sub, shared by everything that a broker does."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rpcs: Rpcs = wire.bind(connection.channel)
        self.schemas: dict[str, TopicSchema] = {}
        self._closing: set[asyncio.Task[None]] = set()
        forks.opened(self)

    def topic_path(self, topic: str) -> str:
        """Full name of a topic of this project."""
        return resource_path(self.connection.project, "topics", topic)

    def subscription_path(self, subscription: str) -> str:
        """Full name of a subscription of this project."""
        return resource_path(self.connection.project, "subscriptions", subscription)

    def schema_path(self, schema: TopicSchema) -> str:
        """Full name of a schema of this project."""
        return resource_path(self.connection.project, "schemas", schema.schema_id)

    async def ensure_topic(self, path: str) -> None:
        """Create a topic unless it is there, with its schema if it has one.

        Raises:
            TopologyError: It can't be created.
        """
        wanted = wire.Topic(name=path)
        if schema := self.schemas.get(path):
            wanted.schema_settings.schema = self.schema_path(schema)
            wanted.schema_settings.encoding = wire.JSON_ENCODING
        try:
            await self.setup_call("create_topic", wanted)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise TopologyError(f"can't create {path}: {told(error)}") from error

    async def ensure_subscription(self, wanted: Proto) -> Proto | None:
        """Create a subscription unless it is there.

        Args:
            wanted: A `google.pubsub.v1.Subscription`.

        Returns:
            The one that was there already, if any.

        Raises:
            TopologyError: It can't be created, or it is there on another topic.
        """
        try:
            await self.setup_call("create_subscription", wanted)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise TopologyError(f"can't create {wanted.name}: {told(error)}") from error
            return await self.find_subscription(wanted)
        return None

    async def find_subscription(self, wanted: Proto) -> Proto:
        """Get a subscription that must be there and read the wanted topic.

        Raises:
            TopologyError: It is absent, can't be read, or belongs to another topic.
        """
        request = wire.GetSubscriptionRequest(subscription=wanted.name)
        try:
            found = await self.setup_call("get_subscription", request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise TopologyError(
                    f"{wanted.name} does not exist: create it, or set autocreate=True.",
                ) from error
            raise TopologyError(f"can't read {wanted.name}: {told(error)}") from error
        if wanted.topic and found.topic != wanted.topic:
            raise TopologyError(
                f"{wanted.name} exists on {found.topic}, but the subscriber declares "
                f"{wanted.topic}: use another subscription name, or delete the old subscription.",
            )
        return found

    async def update_subscription(self, wanted: Proto, fields: Iterable[str]) -> None:
        """Change fields of a subscription.

        Raises:
            TopologyError: The service refused.
        """
        request = wire.UpdateSubscriptionRequest(subscription=wanted)
        request.update_mask.paths.extend(fields)
        try:
            await self.setup_call("update_subscription", request)
        except grpc.aio.AioRpcError as error:
            raise TopologyError(f"can't update {wanted.name}: {told(error)}") from error

    async def ping(self, timeout_seconds: float) -> bool:
        """Tell whether the server answers; a refusal is an answer too."""
        request = wire.ListTopicsRequest(
            project=f"projects/{self.connection.project}",
            page_size=1,
        )
        try:
            await self.rpcs.list_topics(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            return error.code() not in wire.TRANSIENT
        return True

    def leave(self) -> None:
        """Make no more calls: this process is a fork."""
        self.rpcs = Rpcs(**dict.fromkeys(Rpcs.__dataclass_fields__, forks.refuse))

    def renew(self) -> None:
        """Go on over a new channel; calls on the old one are tried again on the new one."""
        closing = asyncio.create_task(self.connection.channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self.connection = self.connection.renewed()
        self.rpcs = wire.bind(self.connection.channel)

    async def close(self) -> None:
        """Close all channels."""
        await asyncio.gather(*self._closing, self.connection.channel.close())

    async def setup_call(self, rpc: str, request: Proto) -> Proto:
        """Call what makes or looks at resources, again after transient errors."""
        return await with_retry(self, rpc, request, patience_seconds=SETUP_PATIENCE_SECONDS)


def told(error: grpc.aio.AioRpcError) -> str:
    """What the service said."""
    return f"{error.code().name}: {error.details()}"
