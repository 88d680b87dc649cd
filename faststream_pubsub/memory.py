"""A Pub/Sub in memory: what subscriptions do with messages, without a server or a clock."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Final, TypeAlias

from faststream.exceptions import SubscriberNotFound
from google.protobuf.timestamp_pb2 import Timestamp

from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.connection import EMULATOR_PROJECT
from faststream_pubsub.dead_letters import dead_letter
from faststream_pubsub.deliveries import Delivery, DeliveryQueue
from faststream_pubsub.errors import PubSubError
from faststream_pubsub.filters import compile_filter
from faststream_pubsub.holdings import Log, Source
from faststream_pubsub.message import REPLY_TO
from faststream_pubsub.names import resource_path
from faststream_pubsub.pulling import Handler
from faststream_pubsub.service import Rights, encode_for
from faststream_pubsub.settings import SubscriptionSettings
from faststream_pubsub.subscriber import PubSubSubscriber
from faststream_pubsub.watchdog import SubscriptionHealth
from faststream_pubsub.wire import Proto

MAX_DELIVERIES: Final = 100
"""A message that was nacked so often, without a dead-letter topic, would go on for ever."""

Lane: TypeAlias = tuple[str, str]
_handled: ContextVar[frozenset[Lane]] = ContextVar("handled", default=frozenset())


class MemoryService:
    """Routes messages to subscribers, once per subscription.

    A publication ends when all its messages are settled: nacked ones are delivered again at once,
    up to the dead-letter topic.
    """

    _ids = itertools.count(1)
    # brokers under test have a service each, and answer each other
    _replies: ClassVar[dict[str, asyncio.Future[Delivery]]] = {}

    def __init__(
        self,
        subscribers: Callable[[], Iterable[PubSubSubscriber]],
        *,
        raise_errors: bool,
    ) -> None:
        """Prepare a service without messages.

        Args:
            subscribers: Gives all subscribers of the brokers under test.
            raise_errors: A handler's error reaches the publisher, and ends the deliveries.
        """
        self.project = EMULATOR_PROJECT
        self._subscribers = subscribers
        self._raise_errors = raise_errors
        self._locks: defaultdict[Lane, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._later: defaultdict[Lane, deque[Sequence[Proto]]] = defaultdict(deque)

    # what a broker asks of its service

    async def publish(self, topic: str, message: Proto) -> str:
        """Deliver a message and wait until it is settled."""
        [message_id] = await self.publish_batch(topic, [message])
        return message_id

    async def publish_batch(self, topic: str, messages: Sequence[Proto]) -> list[str]:
        """Deliver messages and wait until they are settled."""
        schemas = (one.topic_schema for one in self._readers(topic))
        encode_for(next(filter(None, schemas), None), messages)
        for message in messages:
            message.message_id = str(next(self._ids))
            message.publish_time.CopyFrom(_now())
        if (reply := self._replies.get(topic)) and not reply.done():
            reply.set_result(_reply(messages[0]))
        errors: list[Exception] = []
        for subscriber in self._readers(topic):
            try:
                await self._route(subscriber, messages)
            except Exception as error:  # noqa: BLE001 - raised when all subscriptions have theirs
                errors.append(error)
        if errors:
            raise errors[0]
        return [str(message.message_id) for message in messages]

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

    async def declare_schemas(self, schemas: Mapping[str, TopicSchema], rights: Rights) -> None:
        """Subscribers bring the schemas of their topics; nothing validates messages."""

    async def ensure(self, wanted: Proto, rights: Rights, log: Log) -> None:
        """Everything is there."""

    async def keep_letters(self, topic: str) -> None:
        """Letters go to the handlers that read them."""

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

    # deliveries

    def _readers(self, topic: str) -> list[PubSubSubscriber]:
        by_subscription: dict[str, PubSubSubscriber] = {}
        for subscriber in self._subscribers():
            if subscriber.topic and self._topic_path(subscriber.topic) == topic:
                by_subscription.setdefault(subscriber.subscription, subscriber)
        return list(by_subscription.values())

    def _topic_path(self, topic: str) -> str:
        return resource_path(self.project, "topics", topic)

    async def _route(self, subscriber: PubSubSubscriber, messages: Sequence[Proto]) -> None:
        matches = compile_filter(subscriber.settings.filter)
        wanted = [message for message in messages if matches(message.attributes)]
        size = subscriber.settings.max_batch_size if subscriber.settings.batch else 1
        for start in range(0, len(wanted), size):
            await self._in_order(subscriber, wanted[start : start + size])

    async def _in_order(self, subscriber: PubSubSubscriber, messages: Sequence[Proto]) -> None:
        key = messages[0].ordering_key
        if not key or not subscriber.settings.enable_message_ordering:
            await self._deliver(subscriber, messages)
            return
        lane = (subscriber.subscription, key)
        if lane in _handled.get():
            # a handler that publishes to its own key is not there to handle that now
            self._later[lane].append(messages)
            return
        async with self._locks[lane]:
            token = _handled.set(_handled.get() | {lane})
            try:
                await self._deliver(subscriber, messages)
                while self._later[lane]:
                    await self._deliver(subscriber, self._later[lane].popleft())
            finally:
                _handled.reset(token)

    async def _deliver(self, subscriber: PubSubSubscriber, messages: Sequence[Proto]) -> None:
        if not subscriber.calls:
            if isinstance(reading := subscriber.reading, MemoryReading):
                reading.put([self.delivery(subscriber, message, 1) for message in messages])
            return
        for attempt in range(1, MAX_DELIVERIES + 1):
            deliveries = [self.delivery(subscriber, message, attempt) for message in messages]
            await self._handle(subscriber, deliveries)
            again = [delivery for delivery in deliveries if delivery.nacked]
            messages = [d.message for d in again if not await self.forwarded(subscriber, d)]
            if not messages:
                return
        raise PubSubError(
            f"message {messages[0].message_id} was nacked {MAX_DELIVERIES} times by the subscriber "
            f"of {subscriber.subscription}: a server would go on for ever; give the subscriber a "
            "dead_letter_topic, or have its handler acknowledge.",
        )

    async def _handle(self, subscriber: PubSubSubscriber, deliveries: list[Delivery]) -> None:
        raw: Any = tuple(deliveries) if subscriber.settings.batch else deliveries[0]
        try:
            await subscriber.process_message(raw)
        except Exception:
            if self._raise_errors:
                raise

    async def forwarded(self, subscriber: PubSubSubscriber, delivery: Delivery) -> bool:
        """Make a dead letter of a message that was tried often enough; tell whether it was."""
        letters = subscriber.dead_letter_topic
        if not letters or delivery.attempt < subscriber.settings.max_delivery_attempts:
            return False
        await self.publish(
            self._topic_path(letters), dead_letter(delivery, reason="", attributes={})
        )
        return True

    def delivery(self, subscriber: PubSubSubscriber, message: Proto, attempt: int) -> Delivery:
        """One delivery of a message to a subscriber."""
        name = subscriber.subscription
        return Delivery(
            message,
            ack_id=f"{name}:{message.message_id}:{attempt}",
            attempt=attempt if subscriber.dead_letter_topic else 0,
            subscription=resource_path(self.project, "subscriptions", name),
            settler=_MemorySettler(self, subscriber),
        )

    async def keep_letter(self, topic: str, letter: Proto) -> None:
        """Deliver a rejected message to the dead-letter topic's subscribers."""
        await self.publish(self._topic_path(topic), letter)


class _MemorySettler:
    def __init__(self, service: MemoryService, subscriber: PubSubSubscriber) -> None:
        self._service = service
        self._subscriber = subscriber
        self.topic = subscriber.topic

    async def ack(self, delivery: Delivery) -> None:
        """The message is gone already."""

    async def ack_all(self, deliveries: Sequence[Delivery]) -> None:
        """The messages are gone already."""

    async def nack(self, delivery: Delivery, delay_seconds: int) -> None:
        """Whoever called the handler delivers it again; what is read by hand waits again."""
        del delay_seconds
        delivery.nacked = True
        if not isinstance(reading := self._subscriber.reading, MemoryReading):
            return
        if self._subscriber.calls or await self._service.forwarded(self._subscriber, delivery):
            return
        attempt = delivery.attempt + 1
        reading.put([self._service.delivery(self._subscriber, delivery.message, attempt)])

    async def reject(
        self,
        delivery: Delivery,
        *,
        reason: str,
        attributes: Mapping[str, str],
    ) -> None:
        """Deliver it to the dead-letter topic's subscribers."""
        if topic := self._subscriber.dead_letter_topic:
            letter = dead_letter(delivery, reason=reason, attributes=attributes)
            await self._service.keep_letter(topic, letter)


class MemoryReading:
    """Deliveries for `get_one` and `async for`."""

    def __init__(self) -> None:
        self._queue = DeliveryQueue(ordered=False)

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Queue deliveries."""
        self._queue.put(deliveries)

    def start(self, handle: Handler | None) -> None:
        """Deliveries come by themselves."""
        del handle

    async def get(self) -> Delivery:
        """Wait for the next delivery."""
        delivery = await self._queue.get()
        self._queue.done(delivery)
        return delivery

    def health(self, name: str) -> SubscriptionHealth:
        """All is well."""
        return SubscriptionHealth(subscription=name, down_seconds=0.0, held_messages=0)

    async def stop_reading(self) -> None:
        """Drop what waits."""
        self._queue.take_all()

    async def close(self) -> None:
        """Nothing to close."""


class _NoSettler:
    """Replies are read by this client itself."""

    topic = ""

    async def ack(self, delivery: Delivery) -> None:
        """Nothing to do."""

    async def ack_all(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing to do."""

    async def nack(self, delivery: Delivery, delay_seconds: int) -> None:
        """Nothing to do."""

    async def reject(
        self, delivery: Delivery, *, reason: str, attributes: Mapping[str, str]
    ) -> None:
        """Nothing to do."""


def _reply(message: Proto) -> Delivery:
    return Delivery(
        message,
        ack_id=f"reply:{message.message_id}",
        attempt=0,
        subscription=resource_path(EMULATOR_PROJECT, "subscriptions", "replies"),
        settler=_NoSettler(),
    )


def _now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
