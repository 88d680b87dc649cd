"""What a connected broker can do; the in-memory test broker has its own."""

import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from faststream_pubsub import wire
from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.client import PubSubClient
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.drift import Difference, changeable_differences, fixed_differences, told
from faststream_pubsub.errors import TopologyError
from faststream_pubsub.flow import PublishBatching, PublishFlow
from faststream_pubsub.holdings import Log, Source
from faststream_pubsub.names import resource_path
from faststream_pubsub.publishing import MessagePublisher
from faststream_pubsub.pulling import Handler, Pulling
from faststream_pubsub.replies import ReplyInbox
from faststream_pubsub.settings import SubscriptionSettings
from faststream_pubsub.topic_schemas import SchemaKeeper
from faststream_pubsub.watchdog import SubscriptionHealth
from faststream_pubsub.wire import Proto


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What the code may do to the topics and subscriptions that it declares.

    Attributes:
        create: Create those that are absent.
        update: Change those that are different.
    """

    create: bool
    update: bool


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

    async def declare_schemas(self, schemas: Mapping[str, TopicSchema], rights: Rights) -> None:
        """Make sure that topics, by full name, validate their messages by these schemas."""

    async def ensure(self, wanted: Proto, rights: Rights, log: Log) -> None:
        """Make sure that a subscription, its topic and its dead-letter topic are there."""

    async def keep_letters(self, topic: str) -> None:
        """Make sure that somebody keeps what is published to a dead-letter topic."""

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
        publish_batching: PublishBatching,
        publish_flow: PublishFlow,
        publish_compression_bytes: int | None,
    ) -> None:
        self.project = client.connection.project
        self.client = client
        self.publisher = MessagePublisher(
            client,
            autocreate=autocreate,
            patience_seconds=publish_patience_seconds,
            batching=publish_batching,
            flow=publish_flow,
            compression_bytes=publish_compression_bytes,
        )
        self._replies = ReplyInbox(client, publish=self.publish, read=self._read_replies)

    def publish(self, topic: str, message: Proto) -> Awaitable[str]:
        """Publish a message; see `MessagePublisher.publish`."""
        if self.client.schemas:
            encode_for(self.client.schemas.get(topic), [message])
        return self.publisher.publish(topic, message)

    async def publish_batch(self, topic: str, messages: Sequence[Proto]) -> list[str]:
        """Publish several messages and return their IDs."""
        if self.client.schemas:
            encode_for(self.client.schemas.get(topic), messages)
        return await self.publisher.publish_batch(topic, messages)

    async def request(self, topic: str, message: Proto) -> Delivery:
        """Publish a message and wait for its reply; the caller sets the time limit."""
        return await self._replies.request(topic, message)

    async def declare_schemas(self, schemas: Mapping[str, TopicSchema], rights: Rights) -> None:
        """Create or compare schemas and their topics.

        Raises:
            TopologyError: Something is absent or different, and how to mend it.
        """
        self.client.schemas.update(schemas)
        keeper = SchemaKeeper(self.client, create=rights.create, update=rights.update)
        for topic, schema in schemas.items():
            await keeper.ensure(topic, schema)

    async def ensure(self, wanted: Proto, rights: Rights, log: Log) -> None:
        """Create a subscription, or compare the one that is there with what is declared.

        What can't be changed and is different is an error; what can be is changed if the code
        may, and else told as a warning.

        Raises:
            TopologyError: Something is absent or different, and how to mend it.
        """
        is_owned = rights.create and bool(wanted.topic)
        if is_owned:
            found = await self._ensure_all(wanted, log)
        else:
            found = await self.client.find_subscription(wanted)
        if found is None:
            return
        if fixed := fixed_differences(wanted, found, is_owned=is_owned):
            raise TopologyError(
                f"{wanted.name} exists and can't be changed to what is declared: {told(fixed)}. "
                "Declare what is found, use another subscription name, or delete the old "
                "subscription.",
            )
        if changeable := changeable_differences(wanted, found, is_owned=is_owned):
            await self._mend(wanted, changeable, rights, log)

    async def keep_letters(self, topic: str) -> None:
        """Make sure that a dead-letter topic has a subscription of its own name.

        The service drops messages that are forwarded to a topic which nobody reads.
        """
        await self.client.ensure_subscription(dead_letter_subscription(topic))

    async def _ensure_all(self, wanted: Proto, log: Log) -> Proto | None:
        await self.client.ensure_topic(wanted.topic)
        if letters := wanted.dead_letter_policy.dead_letter_topic:
            await self.client.ensure_topic(letters)
        found = await self.client.ensure_subscription(wanted)
        if found is None and letters and not self.client.connection.address.emulated:
            log(logging.WARNING, dead_letter_permissions(wanted), None)
        return found

    async def _mend(
        self, wanted: Proto, differences: list[Difference], rights: Rights, log: Log
    ) -> None:
        text = f"{wanted.name} is not as declared: {told(differences)}."
        if not rights.update:
            log(
                logging.WARNING,
                f"{text} What is found holds: declare that, or set autoupdate=True to change it.",
                None,
            )
            return
        await self.client.update_subscription(wanted, sorted({d.field for d in differences}))
        log(logging.INFO, f"{text} It is changed to what is declared.", None)

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


def encode_for(schema: TopicSchema | None, messages: Iterable[Proto]) -> None:
    """Write messages as their topic's schema wants them."""
    if schema is not None:
        for message in messages:
            message.data = schema.to_avro(message.data)


def dead_letter_permissions(subscription: Proto) -> str:
    """Who must be allowed what, so that the service itself forwards dead letters.

    Source: https://cloud.google.com/pubsub/docs/handling-failures#grant_forwarding_permissions.
    """
    topic = subscription.dead_letter_policy.dead_letter_topic
    return (
        f"{subscription.name} forwards messages to {topic} only if Pub/Sub's own service account, "
        "service-PROJECT_NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com, has roles/pubsub.publisher "
        "on that topic and roles/pubsub.subscriber on the subscription: grant both."
    )


def _log_reply(level: int, text: str, error: BaseException | None) -> None:
    logging.getLogger(__name__).log(level, text, exc_info=error)


def dead_letter_subscription(topic: str) -> Proto:
    """The subscription that keeps dead letters, named like their topic."""
    _, project, _, name = topic.split("/")
    return wire.Subscription(name=resource_path(project, "subscriptions", name), topic=topic)
