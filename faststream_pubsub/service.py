"""What a connected broker can do; the in-memory test broker has its own."""

import logging
from collections.abc import Awaitable, Sequence
from typing import Protocol

from faststream_pubsub import wire
from faststream_pubsub.client import PubSubClient
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.flow import PublishFlow
from faststream_pubsub.names import resource_path
from faststream_pubsub.publishing import MessagePublisher
from faststream_pubsub.pulling import Handler, Log, Pulling, Source
from faststream_pubsub.replies import ReplyInbox
from faststream_pubsub.settings import SubscriptionSettings
from faststream_pubsub.watchdog import SubscriptionHealth
from faststream_pubsub.wire import Proto


class Reading(Protocol):
    """A subscription that is being read."""

    def start(self, handle: Handler | None) -> None:
        """Start; without a handler, deliveries wait for `get`."""

    async def get(self) -> Delivery:
        """Wait for the next delivery."""

    def health(self, name: str) -> SubscriptionHealth:
        """Say how reading goes."""

    async def stop_reading(self) -> None:
        """Read no more; give back what no handler has begun."""

    async def close(self) -> None:
        """Stop for good."""


class Service(Protocol):
    """Publishing and reading, with full names."""

    project: str

    def publish(self, topic: str, message: Proto) -> Awaitable[str]:
        """Publish a message; what is returned waits for its ID."""

    async def publish_batch(self, topic: str, messages: Sequence[Proto]) -> list[str]:
        """Publish several messages and return their IDs."""

    async def request(self, topic: str, message: Proto) -> Delivery:
        """Publish a message and wait for its reply."""

    async def ensure(self, wanted: Proto, *, autocreate: bool) -> None:
        """Make sure that a subscription, its topic and its dead-letter topic are there."""

    def read(self, source: Source, settings: SubscriptionSettings, log: Log) -> Reading:
        """Prepare to read a subscription."""

    async def ping(self, timeout_seconds: float) -> bool:
        """Tell whether the server answers."""

    async def close(self, timeout_seconds: float) -> None:
        """Flush and disconnect."""


class PubSubService:
    """The real service, or an emulator of it."""

    def __init__(
        self,
        client: PubSubClient,
        *,
        autocreate: bool,
        publish_patience_seconds: float,
        publish_flow: PublishFlow,
        publish_compression_bytes: int | None,
    ) -> None:
        self.project = client.connection.project
        self.client = client
        self.publisher = MessagePublisher(
            client,
            autocreate=autocreate,
            patience_seconds=publish_patience_seconds,
            flow=publish_flow,
            compression_bytes=publish_compression_bytes,
        )
        self._replies = ReplyInbox(client, publish=self.publish, read=self._read_replies)

    def publish(self, topic: str, message: Proto) -> Awaitable[str]:
        """Publish a message; see `MessagePublisher.publish`."""
        return self.publisher.publish(topic, message)

    async def publish_batch(self, topic: str, messages: Sequence[Proto]) -> list[str]:
        """Publish several messages and return their IDs."""
        return await self.publisher.publish_batch(topic, messages)

    async def request(self, topic: str, message: Proto) -> Delivery:
        """Publish a message and wait for its reply; the caller sets the time limit."""
        return await self._replies.request(topic, message)

    async def ensure(self, wanted: Proto, *, autocreate: bool) -> None:
        """Create or check a subscription.

        A dead-letter topic gets a subscription of its own name, as the service drops messages
        that are forwarded to a topic which nobody reads.

        Raises:
            TopologyError: Something is absent or different, and how to mend it.
        """
        if not autocreate or not wanted.topic:
            await self.client.check_subscription(wanted)
            return
        await self.client.ensure_topic(wanted.topic)
        if letters := wanted.dead_letter_policy.dead_letter_topic:
            await self.client.ensure_topic(letters)
            await self.client.ensure_subscription(dead_letter_subscription(letters))
        await self.client.ensure_subscription(wanted)

    def read(self, source: Source, settings: SubscriptionSettings, log: Log) -> Reading:
        """Prepare to read a subscription."""
        return Pulling(self.client, self.publisher, source, settings, log)

    async def ping(self, timeout_seconds: float) -> bool:
        """Tell whether the server answers."""
        return await self.client.ping(timeout_seconds)

    async def close(self, timeout_seconds: float) -> None:
        """Flush what is being published and disconnect."""
        await self._replies.close()
        await self.publisher.close(timeout_seconds)
        await self.client.close()

    def _read_replies(self, subscription: str) -> Pulling:
        async def leave() -> None:
            """A reply topic that somebody deleted is not made anew."""

        source = Source(subscription=subscription, dead_letter_topic=None, ensure=leave)
        return Pulling(self.client, self.publisher, source, SubscriptionSettings(), _log_reply)


def _log_reply(level: int, text: str, error: BaseException | None) -> None:
    logging.getLogger(__name__).log(level, text, exc_info=error)


def dead_letter_subscription(topic: str) -> Proto:
    """The subscription that keeps dead letters, named like their topic."""
    _, project, _, name = topic.split("/")
    return wire.Subscription(name=resource_path(project, "subscriptions", name), topic=topic)
