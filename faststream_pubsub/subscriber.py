import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from faststream.exceptions import SetupError
from faststream.message import StreamMessage
from faststream.middlewares import AckPolicy
from faststream.specification.asyncapi.utils import resolve_payloads
from faststream.specification.schema import Message, Operation, SubscriberSpec

from faststream_pubsub._faststream import (
    BrokerMiddleware,
    CallsCollection,
    PublisherProto,
    SubscriberSpecification,
    process_msg,
)
from faststream_pubsub.assertions import PubSubHandlerCallWrapper
from faststream_pubsub.config import (
    PubSubBrokerConfig,
    PubSubSubscriberConfig,
    PubSubSubscriberSpecificationConfig,
)
from faststream_pubsub.confirming import ConfirmingMiddleware
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.handling import LeanSubscriber
from faststream_pubsub.holdings import Source
from faststream_pubsub.message import PubSubMessage
from faststream_pubsub.names import (
    add_prefix,
    check_name,
    default_subscription,
    resource_path,
)
from faststream_pubsub.parser import PubSubBatchParser, PubSubParser, SchemaParser
from faststream_pubsub.publisher import PubSubReplyPublisher
from faststream_pubsub.service import Reading, Rights


class PubSubSubscriber(LeanSubscriber[Delivery]):
    """Reads one subscription."""

    _call_wrapper_class = PubSubHandlerCallWrapper
    _outer_config: PubSubBrokerConfig

    def __init__(
        self,
        config: PubSubSubscriberConfig,
        specification: SubscriberSpecification[Any, Any],
        calls: CallsCollection[Delivery],
    ) -> None:
        if config.settings.batch:
            batches = PubSubBatchParser(config.topic_schema)
            config.parser, config.decoder = batches.parse_batch, batches.decode_batch
        else:
            single = SchemaParser(config.topic_schema) if config.topic_schema else PubSubParser()
            config.parser, config.decoder = single.parse_message, single.decode_message
        super().__init__(config, specification, calls)
        self._topic = config.topic
        self._subscription = config.subscription
        self.settings = config.settings
        self.topic_schema = config.topic_schema
        self._reading: Reading | None = None
        self._is_ensured = False
        self._confirms = config.settings.enable_exactly_once_delivery and config.ack_policy not in {
            AckPolicy.ACK_FIRST,
            AckPolicy.MANUAL,
        }
        self._log_names: dict[str, str] | None = None

    @property
    def topic(self) -> str:
        """Topic with the router's prefix; empty where only a subscription is declared."""
        return add_prefix(self._outer_config.prefix, self._topic) if self._topic else ""

    @property
    def subscription(self) -> str:
        """Subscription with the router's prefix."""
        return subscription_name(self._outer_config.prefix, self._topic, self._subscription)

    @property
    def dead_letter_topic(self) -> str | None:
        """Dead-letter topic with the router's prefix."""
        name = self.settings.dead_letter_topic
        return add_prefix(self._outer_config.prefix, name) if name else None

    def check_names(self, *, is_whole: bool) -> None:
        """Check the names that are declared; whole ones have all their prefixes.

        Raises:
            SetupError: One can't be the name of a Pub/Sub resource.
        """
        letters = self.settings.dead_letter_topic
        if letters and letters == self._topic:
            raise SetupError(
                f"dead_letter_topic={letters!r} is the subscriber's own topic: dead letters would "
                "come round for ever; name another one.",
            )
        for collection, name in (
            ("topics", self.topic),
            ("topics", self.dead_letter_topic or ""),
            ("subscriptions", self.subscription),
        ):
            if name:
                check_name(collection, name, is_whole=is_whole)

    @property
    def reading(self) -> Reading | None:
        """What reads the subscription, while it is read."""
        return self._reading

    @property
    def _broker_middlewares(self) -> Sequence[BrokerMiddleware[Delivery]]:
        outer = self._outer_config.broker_middlewares
        return (*outer, ConfirmingMiddleware) if self._confirms else outer

    async def start(self) -> None:
        """Make sure that the subscription is there, and begin to read it."""
        if not self._is_ensured:
            await self._restore()
        # from here on prefixes stay as they are
        self._log_names = self._names()
        await super().start()
        self._post_start()
        if self.calls:
            with self.handling():
                self._read().start(self.consume)

    async def stop(self) -> None:
        """Stop reading, let running handlers finish, and settle what is left.

        Handlers have the broker's `graceful_timeout`; messages that none has begun are given
        back at once, those of cancelled handlers after it.
        """
        self._is_ensured = False
        reading, self._reading = self._reading, None
        if reading is not None:
            await reading.stop_reading()
        await super().stop()
        if reading is not None:
            await reading.close()

    async def get_one(self, *, timeout: float = 5.0) -> PubSubMessage | None:  # noqa: ASYNC109 - FastStream's signature
        """Wait for one message, which the caller settles.

        Args:
            timeout: Seconds to wait.

        Returns:
            The message, or None if there was none in time.
        """
        self._check_by_hand("get_one")
        reading = self._read_by_hand()
        try:
            async with asyncio.timeout(timeout):
                delivery = await reading.get()
        except TimeoutError:
            return None
        return await self._parse(delivery)

    async def __aiter__(self) -> AsyncIterator[PubSubMessage]:
        """Iterate over messages, which the caller settles."""
        self._check_by_hand("async for")
        reading = self._read_by_hand()
        while True:
            yield await self._parse(await reading.get())

    def get_log_context(self, message: StreamMessage[Any] | None) -> dict[str, str]:
        """What log records of this subscriber carry."""
        message_id = getattr(message, "message_id", "")
        return {**(self._log_names or self._names()), "message_id": message_id}

    def _names(self) -> dict[str, str]:
        return {"topic": self.topic, "subscription": self.subscription}

    def _make_response_publisher(
        self,
        message: StreamMessage[Any],
    ) -> Sequence[PublisherProto[Any]]:
        return (PubSubReplyPublisher(self._outer_config.producer, topic=message.reply_to),)

    def _check_by_hand(self, what: str) -> None:
        if self.settings.batch:
            raise AssertionError(f"`{what}` takes single messages: leave out batch=True.")
        if self.calls:
            raise AssertionError(f"`{what}` can't be used on a subscriber that has handlers.")

    def _read_by_hand(self) -> Reading:
        if self._reading is None:
            self._read().start(None)
        assert self._reading is not None  # noqa: S101 - narrows what _read has just set
        return self._reading

    def _read(self) -> Reading:
        source = self._source()
        self._reading = self._outer_config.service.read(source, self.settings, self._tell)
        return self._reading

    def _source(self) -> Source:
        project = self._outer_config.service.project
        letters = self.dead_letter_topic
        return Source(
            subscription=resource_path(project, "subscriptions", self.subscription),
            dead_letter_topic=resource_path(project, "topics", letters) if letters else None,
            ensure=self._restore,
            topic=self.topic,
        )

    async def ensure(self) -> None:
        """Create or check the subscription, its topic and its dead-letter topic.

        Raises:
            TopologyError: Something is absent, can't be created, or is different.
        """
        service = self._outer_config.service
        source = self._source()
        wanted = self.settings.as_subscription(
            name=source.subscription,
            topic=resource_path(service.project, "topics", self.topic) if self.topic else "",
            dead_letter_topic=source.dead_letter_topic,
        )
        await service.ensure(wanted, self._rights(), self._tell)
        self._is_ensured = True

    async def keep_letters(self) -> None:
        """Make sure that dead letters are kept, once all declared subscriptions are there."""
        letters = self._source().dead_letter_topic
        if letters and self.topic and self._rights().create:
            await self._outer_config.service.keep_letters(letters)

    async def _restore(self) -> None:
        await self.ensure()
        await self.keep_letters()

    def _rights(self) -> Rights:
        outer, own = self._outer_config, self.settings
        return Rights(
            create=outer.autocreate if own.autocreate is None else own.autocreate,
            update=outer.autoupdate if own.autoupdate is None else own.autoupdate,
        )

    async def _parse(self, delivery: Delivery) -> PubSubMessage:
        parser, decoder = self._get_parser_and_decoder()
        context = self._outer_config.context
        message = await process_msg(
            msg=delivery,
            middlewares=(
                m(delivery, context=context) for m in self._outer_config.broker_middlewares
            ),
            parser=parser,
            decoder=decoder,
        )
        assert isinstance(message, PubSubMessage)  # noqa: S101 - a parser must return one
        if self.ack_policy is AckPolicy.ACK_FIRST:
            await message.ack()
        return message

    def _tell(self, level: int, text: str, error: BaseException | None) -> None:
        self._outer_config.logger.log(
            text,
            level,
            extra=self.get_log_context(None),
            exc_info=error if level >= logging.ERROR else None,
        )


def subscription_name(prefix: str, topic: str, subscription: str) -> str:
    """Name of a subscriber's subscription: the given one, else derived from its topic."""
    return add_prefix(prefix, subscription or default_subscription(topic))


class PubSubSubscriberSpecification(
    SubscriberSpecification[PubSubBrokerConfig, PubSubSubscriberSpecificationConfig],
):
    """A subscriber's entry in the AsyncAPI document."""

    @property
    def address(self) -> str:
        """Topic with the router's prefix, or the subscription where no topic is declared."""
        name = self.config.topic or self.config.subscription
        return add_prefix(self._outer_config.prefix, name)

    @property
    def channel_labels(self) -> list[str]:
        """One channel per subscriber."""
        return [self.address]

    def get_schema(self) -> dict[str, SubscriberSpec]:
        """Render the entry."""
        payload = resolve_payloads(self.get_payloads())
        return {
            self.name: SubscriberSpec(
                address=self.address,
                description=self.description,
                operation=Operation(
                    message=Message(title=f"{self.name}:Message", payload=payload),
                    bindings=None,
                ),
                bindings=None,
            ),
        }
