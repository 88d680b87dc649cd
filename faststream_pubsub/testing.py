"""A Pub/Sub in memory, for tests of handlers."""

import asyncio
import itertools
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from faststream.exceptions import SubscriberNotFound
from google.protobuf.timestamp_pb2 import Timestamp

from faststream_pubsub._faststream import EnterType, TestBroker, change_producer
from faststream_pubsub.broker import PubSubBroker
from faststream_pubsub.connection import EMULATOR_PROJECT
from faststream_pubsub.deliveries import Delivery, DeliveryQueue
from faststream_pubsub.names import resource_path
from faststream_pubsub.parser import REPLY_TO
from faststream_pubsub.producer import PubSubProducer
from faststream_pubsub.publisher import PubSubPublisherUsecase
from faststream_pubsub.pulling import Handler, Log, Source, dead_letter
from faststream_pubsub.settings import SubscriptionSettings
from faststream_pubsub.subscriber import PubSubSubscriber
from faststream_pubsub.wire import Proto

__all__ = ("FakeProducer", "TestPubSubBroker")


class TestPubSubBroker(TestBroker[PubSubBroker, EnterType], broker=PubSubBroker):
    """Runs a broker's handlers without a server, or, `with_real=True`, with one.

    In memory, `publish` returns when every handler is done, and raises what a handler raised.
    """

    def create_publisher_fake_subscriber(
        self,
        broker: PubSubBroker,
        publisher: PubSubPublisherUsecase,
    ) -> tuple[PubSubSubscriber, bool]:
        """Find who reads a publisher's topic, or make somebody up."""
        for subscriber in _subscribers(self.brokers):
            if subscriber.topic == publisher.topic:
                return subscriber, True
        fake = broker.subscriber(
            publisher.topic,
            subscription=f"{publisher.topic.rsplit('/', maxsplit=1)[-1]}-observed",
            persistent=False,
        )
        return fake, False

    @contextmanager
    def _patch_producer(self, broker: PubSubBroker) -> Generator[None, None, None]:
        producer = FakeProducer(broker, self.brokers)
        with change_producer(broker.config.broker_config, producer):
            yield

    async def _fake_connect(  # type: ignore[override] # typed None there, but used as connection
        self,
        broker: PubSubBroker,
        *_args: object,
        **_kwargs: object,
    ) -> "MemoryService":
        service = MemoryService(self.brokers)
        broker.config.broker_config.connect(service)
        return service


class FakeProducer(PubSubProducer):
    """Hands messages to the handlers of the brokers under test."""

    def __init__(self, broker: PubSubBroker, brokers: Sequence[PubSubBroker]) -> None:
        super().__init__(broker._parser, broker._decoder)  # noqa: SLF001 - set for producers by FastStream
        self.broker = broker
        self.brokers = brokers
        config = broker.config.broker_config
        self.connect(MemoryService(brokers), config.fd_config._serializer, config.broker_codec)  # noqa: SLF001 - as in PubSubBrokerConfig.connect


class MemoryService:
    """Routes messages to subscribers, once per subscription."""

    _ids = itertools.count(1)
    # brokers under test have a service each, and answer each other
    _replies: ClassVar[dict[str, asyncio.Future[Delivery]]] = {}

    def __init__(self, brokers: Sequence[PubSubBroker]) -> None:
        self.project = EMULATOR_PROJECT
        self._brokers = brokers

    async def publish(self, topic: str, message: Proto) -> str:
        """Deliver a message and wait until it is handled."""
        message.message_id = str(next(self._ids))
        stamp = Timestamp()
        stamp.GetCurrentTime()
        message.publish_time.CopyFrom(stamp)
        if (reply := self._replies.get(topic)) and not reply.done():
            reply.set_result(self._delivery(message, subscription="replies", letters=None))
        for subscriber in self._readers(topic):
            await self._deliver(subscriber, message)
        return str(message.message_id)

    async def request(self, topic: str, message: Proto) -> Delivery:
        """Deliver a message and return what its handler replied.

        Raises:
            SubscriberNotFound: Nobody reads the topic.
        """
        if not self._readers(topic):
            raise SubscriberNotFound(f"nobody reads {topic}.")
        reply_to = resource_path(self.project, "topics", f"replies-{next(self._ids)}")
        message.attributes[REPLY_TO] = reply_to
        self._replies[reply_to] = asyncio.get_running_loop().create_future()
        try:
            await self.publish(topic, message)
            return await self._replies[reply_to]
        finally:
            del self._replies[reply_to]

    async def ensure(self, wanted: Proto, *, autocreate: bool) -> None:
        """Everything is there."""

    def read(self, source: Source, settings: SubscriptionSettings, log: Log) -> "MemoryReading":
        """Prepare to read a subscription."""
        del source, settings, log
        return MemoryReading()

    async def ping(self, timeout_seconds: float) -> bool:
        """Always there."""
        del timeout_seconds
        return True

    async def close(self, timeout_seconds: float) -> None:
        """Nothing to close."""

    def _readers(self, topic: str) -> list[PubSubSubscriber]:
        by_subscription: dict[str, PubSubSubscriber] = {}
        for subscriber in _subscribers(self._brokers):
            if subscriber.topic and self._path(subscriber) == topic:
                by_subscription.setdefault(subscriber.subscription, subscriber)
        return list(by_subscription.values())

    def _path(self, subscriber: PubSubSubscriber) -> str:
        return resource_path(self.project, "topics", subscriber.topic)

    async def _deliver(self, subscriber: PubSubSubscriber, message: Proto) -> None:
        delivery = self._delivery(
            message,
            subscription=subscriber.subscription,
            letters=subscriber.dead_letter_topic,
        )
        if subscriber.calls:
            await subscriber.process_message(delivery)
        elif isinstance(reading := subscriber.reading, MemoryReading):
            reading.put(delivery)

    def _delivery(self, message: Proto, *, subscription: str, letters: str | None) -> Delivery:
        letters_path = resource_path(self.project, "topics", letters) if letters else None
        return Delivery(
            message,
            ack_id=f"{subscription}:{message.message_id}",
            attempt=1 if letters else 0,
            subscription=resource_path(self.project, "subscriptions", subscription),
            settler=_MemorySettler(self, letters_path),
        )


class _MemorySettler:
    def __init__(self, service: MemoryService, dead_letter_topic: str | None) -> None:
        self._service = service
        self._dead_letter_topic = dead_letter_topic

    async def ack(self, delivery: Delivery) -> None:
        """The message is gone already."""

    async def nack(self, delivery: Delivery, delay_seconds: int) -> None:
        """Marked only: the publisher is still waiting for this delivery."""
        del delay_seconds
        delivery.nacked = True

    async def reject(
        self,
        delivery: Delivery,
        *,
        reason: str,
        attributes: Mapping[str, str],
    ) -> None:
        """Deliver it to the dead-letter topic's subscribers."""
        if self._dead_letter_topic:
            letter = dead_letter(delivery, reason=reason, attributes=attributes)
            await self._service.publish(self._dead_letter_topic, letter)


class MemoryReading:
    """Deliveries for `get_one` and `async for`."""

    def __init__(self) -> None:
        self._queue = DeliveryQueue(ordered=False)

    def put(self, delivery: Delivery) -> None:
        """Queue a delivery."""
        self._queue.put([delivery])

    def start(self, handle: Handler | None) -> None:
        """Deliveries come by themselves."""
        del handle

    async def get(self) -> Delivery:
        """Wait for the next delivery."""
        delivery = await self._queue.get()
        self._queue.done(delivery)
        return delivery

    async def stop_reading(self) -> None:
        """Drop what waits."""
        self._queue.take_all()

    async def close(self) -> None:
        """Nothing to close."""


def _subscribers(brokers: Sequence[PubSubBroker]) -> Iterable[PubSubSubscriber]:
    for broker in brokers:
        for subscriber in broker.subscribers:
            if isinstance(subscriber, PubSubSubscriber):
                yield subscriber
