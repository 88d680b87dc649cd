"""Requests: a message out, and its reply back over a topic of this broker's own."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import grpc

from faststream_pubsub import wire
from faststream_pubsub.client import PubSubClient
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.errors import InvalidMessageError, PubSubError
from faststream_pubsub.message import CORRELATION_ID, REPLY_TO
from faststream_pubsub.pulling import Pulling
from faststream_pubsub.wire import Proto

# the shortest that the service allows: it cleans up after brokers that could not
_EXPIRY_SECONDS: Final = 86_400
_CLOSE_SECONDS: Final = 1.0


class ReplyInbox:
    """Waits for replies. Topic and subscription are made with the first request."""

    def __init__(
        self,
        client: PubSubClient,
        *,
        publish: Callable[[str, Proto], Awaitable[str]],
        read: Callable[[str], Pulling],
    ) -> None:
        """Prepare an inbox that is not there yet.

        Args:
            client: The connection.
            publish: Publishes a message to a topic.
            read: Prepares to read a subscription.
        """
        name = f"faststream-replies-{uuid.uuid4().hex}"
        self._client = client
        self._publish = publish
        self._read = read
        self._topic = client.topic_path(name)
        self._subscription = client.subscription_path(name)
        self._reading: Pulling | None = None
        self._making = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[Delivery]] = {}

    async def request(self, topic: str, message: Proto) -> Delivery:
        """Publish a message and wait for the reply of the same correlation ID.

        Raises:
            InvalidMessageError: Another request of that correlation ID is waiting.
            PubSubError: The broker was stopped before the reply came.
        """
        async with self._making:
            if self._reading is None:
                await self._make()
        message.attributes[REPLY_TO] = self._topic
        correlation_id = message.attributes[CORRELATION_ID]
        if correlation_id in self._waiting:
            raise InvalidMessageError(
                f"a request with correlation_id={correlation_id!r} waits for its reply already: "
                "requests that overlap need IDs of their own.",
            )
        reply: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = reply
        try:
            await self._publish(topic, message)
            return await reply
        finally:
            del self._waiting[correlation_id]

    async def close(self) -> None:
        """Stop reading, and take topic and subscription away."""
        if self._reading is None:
            return
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(PubSubError("the broker was stopped before the reply came."))
        await self._reading.close(_CLOSE_SECONDS)
        rpcs = self._client.rpcs
        # what can't be deleted now expires by itself
        with suppress(grpc.aio.AioRpcError):
            await rpcs.delete_subscription(
                wire.DeleteSubscriptionRequest(subscription=self._subscription),
                timeout=_CLOSE_SECONDS,
            )
            await rpcs.delete_topic(
                wire.DeleteTopicRequest(topic=self._topic),
                timeout=_CLOSE_SECONDS,
            )

    async def _make(self) -> None:
        await self._client.ensure_topic(self._topic)
        wanted = wire.Subscription(name=self._subscription, topic=self._topic)
        wanted.expiration_policy.ttl.seconds = _EXPIRY_SECONDS
        await self._client.ensure_subscription(wanted)
        self._reading = self._read(self._subscription)
        self._reading.start(self._receive)

    async def _receive(self, delivery: Delivery) -> None:
        if confirmation := delivery.settler.ack(delivery):
            await confirmation
        reply = self._waiting.get(delivery.message.attributes[CORRELATION_ID])
        if reply is not None and not reply.done():
            reply.set_result(delivery)
