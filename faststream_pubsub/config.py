from dataclasses import dataclass, field
from types import MappingProxyType

from faststream.exceptions import IncorrectState
from faststream.middlewares import AckPolicy

from faststream_pubsub._faststream import (
    EMPTY,
    BrokerConfig,
    PublisherSpecificationConfig,
    PublisherUsecaseConfig,
    SubscriberSpecificationConfig,
    SubscriberUsecaseConfig,
    UnderlyingDriverAnnotation,
    UnderlyingDriverAnnotations,
)
from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.producer import PubSubProducer
from faststream_pubsub.service import Service
from faststream_pubsub.settings import SubscriptionSettings


def _context_annotations() -> UnderlyingDriverAnnotations:
    # both modules import this one
    from faststream_pubsub import annotations  # noqa: PLC0415
    from faststream_pubsub.broker import PubSubBroker  # noqa: PLC0415
    from faststream_pubsub.message import PubSubBatchMessage, PubSubMessage  # noqa: PLC0415

    return MappingProxyType(
        {
            kind: UnderlyingDriverAnnotation(
                type_hint=getattr(annotations, kind.__name__),
                module=annotations.__name__,
                name=kind.__name__,
            )
            for kind in (PubSubBroker, PubSubMessage, PubSubBatchMessage)
        },
    )


@dataclass(kw_only=True)
class PubSubBrokerConfig(BrokerConfig):
    """What subscribers and publishers share with their broker."""

    autocreate: bool = True
    autoupdate: bool = False
    producer: PubSubProducer = field(default_factory=lambda: PubSubProducer(None, None))
    connected_service: Service | None = field(default=None, init=False, repr=False)
    default_driver_annotations: UnderlyingDriverAnnotations = field(
        default_factory=_context_annotations,
    )

    @property
    def service(self) -> Service:
        """The connected service.

        Raises:
            IncorrectState: The broker is not connected.
        """
        if self.connected_service is None:
            raise IncorrectState("PubSubBroker is not connected: call `await broker.start()`.")
        return self.connected_service

    def connect(self, service: Service) -> None:
        """Give a connected service to all that share this configuration."""
        self.connected_service = service
        self.producer.connect(service, self.fd_config._serializer, self.broker_codec)  # noqa: SLF001 - where FastStream's brokers read it

    def disconnect(self) -> None:
        """Forget the service."""
        self.connected_service = None
        self.producer.disconnect()


@dataclass(kw_only=True)
class PubSubSubscriberConfig(SubscriberUsecaseConfig):
    """What a subscriber is made of."""

    _outer_config: PubSubBrokerConfig
    topic: str
    subscription: str
    settings: SubscriptionSettings
    topic_schema: TopicSchema | None = None

    @property
    def ack_policy(self) -> AckPolicy:
        """The subscriber's own policy, else the broker's, else nack on error."""
        if self._ack_policy is not EMPTY:
            return self._ack_policy
        outer = self._outer_config.ack_policy
        return AckPolicy.NACK_ON_ERROR if outer is EMPTY else outer


@dataclass(kw_only=True)
class PubSubSubscriberSpecificationConfig(SubscriberSpecificationConfig):
    """What a subscriber's AsyncAPI entry is made of."""

    topic: str
    subscription: str


@dataclass(kw_only=True)
class PubSubPublisherConfig(PublisherUsecaseConfig):
    """What a publisher is made of."""

    _outer_config: PubSubBrokerConfig
    topic: str
    attributes: dict[str, str]
    ordering_key: str
    reply_to: str
    skip_none: bool
    batch: bool = False
    topic_schema: TopicSchema | None = None


@dataclass(kw_only=True)
class PubSubPublisherSpecificationConfig(PublisherSpecificationConfig):
    """What a publisher's AsyncAPI entry is made of."""

    topic: str
