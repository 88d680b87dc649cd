"""Tests of handlers without a server."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from faststream_pubsub._faststream import EnterType, TestBroker, change_producer
from faststream_pubsub.broker import PubSubBroker
from faststream_pubsub.config import PubSubBrokerConfig
from faststream_pubsub.memory import MemoryService
from faststream_pubsub.producer import PubSubProducer
from faststream_pubsub.publisher import PubSubPublisherUsecase
from faststream_pubsub.subscriber import PubSubSubscriber

__all__ = ("FakeProducer", "TestPubSubBroker")


class TestPubSubBroker(TestBroker[PubSubBroker, EnterType], broker=PubSubBroker):
    """Runs a broker's handlers without a server, or, `with_real=True`, with one.

    In memory, `publish` returns when every message is settled. Filters, ordering keys, redelivery
    of nacked messages, delivery attempts and dead letters are as on a server; waits are left out.
    """

    def __init__(
        self,
        *brokers: PubSubBroker,
        with_real: bool = False,
        connect_only: bool | None = None,
        raise_errors: bool = True,
    ) -> None:
        """Prepare brokers for tests.

        Args:
            *brokers: Brokers that exchange messages.
            with_real: Use the server that the brokers are made for.
            connect_only: Leave the start of handlers to `TestApp`.
            raise_errors: In memory, `publish` raises a handler's error at once, as with
                FastStream's other test brokers. False: the error settles its message by the ack
                policy, which mostly means redelivery, as on a server.
        """
        super().__init__(*brokers, with_real=with_real, connect_only=connect_only)
        self._service = MemoryService(self._all_subscribers, raise_errors=raise_errors)

    def create_publisher_fake_subscriber(
        self,
        broker: PubSubBroker,
        publisher: PubSubPublisherUsecase,
    ) -> tuple[PubSubSubscriber, bool]:
        """Find who reads a publisher's topic, or make somebody up."""
        for subscriber in self._all_subscribers():
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
        own: PubSubBrokerConfig = broker.config.broker_config
        # a broker that runs goes on afterwards: FastStream's documents try handlers out like this
        service = own.connected_service
        running = {subscriber: subscriber.running for subscriber in broker.subscribers}
        try:
            with change_producer(own, FakeProducer(broker, self._service)):
                yield
        finally:
            own.connected_service = service
            for subscriber, was_running in running.items():
                subscriber.running = was_running

    async def _fake_connect(  # type: ignore[override] # typed None there, but used as connection
        self,
        broker: PubSubBroker,
        *_args: object,
        **_kwargs: object,
    ) -> MemoryService:
        broker.config.broker_config.connect(self._service)
        return self._service

    def _all_subscribers(self) -> Iterator[PubSubSubscriber]:
        for broker in self.brokers:
            for subscriber in broker.subscribers:
                if isinstance(subscriber, PubSubSubscriber):
                    yield subscriber


class FakeProducer(PubSubProducer):
    """Hands messages to the handlers of the brokers under test."""

    def __init__(self, broker: PubSubBroker, service: MemoryService) -> None:
        super().__init__(broker._parser, broker._decoder)  # noqa: SLF001 - set for producers by FastStream
        config = broker.config.broker_config
        self.connect(service, config.fd_config._serializer, config.broker_codec)  # noqa: SLF001 - as in PubSubBrokerConfig.connect
