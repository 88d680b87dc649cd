from collections.abc import Iterable, Sequence
from typing import Any

from faststream.middlewares import AckPolicy

from faststream_pubsub._faststream import (
    EMPTY,
    ArgsContainer,
    BrokerMiddleware,
    BrokerRouter,
    CustomCallable,
    Dependency,
    SubscriberRoute,
    UnderlyingDriverAnnotations,
)
from faststream_pubsub.config import PubSubBrokerConfig
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.registrator import PubSubRegistrator


class PubSubPublisher(ArgsContainer):
    """A publisher of a `PubSubRoute`: takes the arguments of `PubSubRouter.publisher`."""


class PubSubRoute(SubscriberRoute):
    """A handler and how it is subscribed.

    Takes the handler, `publishers=`, and then the arguments of `PubSubRouter.subscriber`.
    """


class PubSubRouter(PubSubRegistrator, BrokerRouter[Delivery, PubSubBrokerConfig]):
    """Subscribers and publishers to include into a broker, or into another router."""

    def __init__(  # noqa: PLR0913 - FastStream's brokers take their settings as arguments
        self,
        prefix: str = "",
        handlers: Iterable[PubSubRoute] = (),
        *,
        dependencies: Sequence[Dependency] = (),
        middlewares: Sequence[BrokerMiddleware[Any, Any]] = (),
        routers: Iterable[PubSubRegistrator] = (),
        parser: CustomCallable | None = None,
        decoder: CustomCallable | None = None,
        include_in_schema: bool | None = None,
        ack_policy: AckPolicy = EMPTY,
        underlying_driver_annotations: UnderlyingDriverAnnotations | None = None,
    ) -> None:
        """Prepare a router.

        Args:
            prefix: Goes before the IDs of topics, subscriptions and dead-letter topics.
            handlers: Handlers that are declared as data.
            dependencies: `Depends` of every handler.
            middlewares: Middlewares of every handler and publisher.
            routers: Routers to include.
            parser: Custom parser.
            decoder: Custom decoder.
            include_in_schema: Show its handlers in the AsyncAPI document.
            ack_policy: Policy of handlers that bring none.
            underlying_driver_annotations: Classes that handlers must not ask for by type.
        """
        super().__init__(
            handlers=handlers,
            config=PubSubBrokerConfig(
                prefix=prefix,
                ack_policy=ack_policy,
                broker_dependencies=dependencies,
                broker_middlewares=middlewares,
                broker_parser=parser,
                broker_decoder=decoder,
                include_in_schema=include_in_schema,
                underlying_driver_annotations=underlying_driver_annotations or {},
            ),
            routers=routers,
        )
