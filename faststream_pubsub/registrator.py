from collections.abc import Sequence
from typing import Any, cast

from faststream.exceptions import SetupError
from faststream.middlewares import AckPolicy
from pydantic import BaseModel

from faststream_pubsub._faststream import (
    EMPTY,
    BrokerMiddleware,
    CallsCollection,
    CodecProto,
    CustomCallable,
    Dependency,
    Registrator,
)
from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.config import (
    PubSubBrokerConfig,
    PubSubPublisherConfig,
    PubSubPublisherSpecificationConfig,
    PubSubSubscriberConfig,
    PubSubSubscriberSpecificationConfig,
)
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.errors import InvalidMessageError
from faststream_pubsub.names import check_text
from faststream_pubsub.publisher import PubSubPublisherSpecification, PubSubPublisherUsecase
from faststream_pubsub.publishing import as_text, build_message
from faststream_pubsub.settings import RetryPolicy, SubscriptionSettings, default_max_messages
from faststream_pubsub.subscriber import PubSubSubscriber, PubSubSubscriberSpecification


class PubSubRegistrator(Registrator[Delivery, PubSubBrokerConfig]):
    """Declares subscribers and publishers: the part that broker and router share."""

    # before the names that a router declares, prefixes may still come
    _has_whole_names = False

    def subscriber(  # type: ignore[override]  # noqa: PLR0913 - FastStream's brokers take their settings as arguments
        self,
        topic: str = "",
        *,
        subscription: str = "",
        # the subscription
        ack_deadline_seconds: int = 10,
        enable_message_ordering: bool = False,
        enable_exactly_once_delivery: bool = False,
        filter: str = "",  # noqa: A002 - Pub/Sub's name for it
        retry_policy: RetryPolicy | None = None,
        dead_letter_topic: str | None = None,
        max_delivery_attempts: int = 5,
        autocreate: bool | None = None,
        autoupdate: bool | None = None,
        # this client
        max_messages: int | None = None,
        max_bytes: int = 100 * 1024 * 1024,
        max_workers: int = 1,
        max_lease_seconds: float = 3_600.0,
        max_silence_seconds: float = 300.0,
        batch: bool = False,
        max_batch_size: int = 100,
        max_batch_wait_seconds: float = 0.1,
        ack_policy: AckPolicy = EMPTY,
        # FastStream
        topic_schema: type[BaseModel] | TopicSchema | None = None,
        no_reply: bool = False,
        dependencies: Sequence[Dependency] = (),
        parser: CustomCallable | None = None,
        decoder: CustomCallable | None = None,
        codec: CodecProto | None = None,
        persistent: bool = True,
        title: str | None = None,
        description: str | None = None,
        include_in_schema: bool = True,
    ) -> PubSubSubscriber:
        """Subscribe a handler.

        Args:
            topic: Topic ID or full name. May be left out if `subscription` exists already.
            subscription: Subscription ID or full name; `<topic>-sub` if left out.
            ack_deadline_seconds: See `SubscriptionSettings`, as for all settings down to
                `max_lease_seconds`.
            enable_message_ordering: Deliver messages of one ordering key in order.
            enable_exactly_once_delivery: No redelivery after a confirmed ack.
            filter: Pub/Sub filter over attributes.
            retry_policy: Wait before redelivery.
            dead_letter_topic: Topic for messages that failed too often or were rejected.
            max_delivery_attempts: Tries before that.
            autocreate: Create what is absent; None takes the broker's setting.
            autoupdate: Change a subscription that is there to what is declared; None takes the
                broker's setting.
            max_messages: Most messages leased at a time; by default 1,000, or eight batches where
                that is more.
            max_bytes: Most bytes leased at a time.
            max_workers: Most handlers running at a time; messages of one ordering key are
                handled one after the other.
            max_lease_seconds: How long a running handler keeps its message at most.
            max_silence_seconds: How long a stream may be silent before it is opened anew, as
                streams can be open but dead. 45 at most with servers that answer to heartbeats.
            batch: Call the handler with a list of bodies; the message is then a
                `PubSubBatchMessage`, settled as a whole unless the handler settles its parts.
            max_batch_size: Most messages in a batch, at most `max_messages`.
            max_batch_wait_seconds: How long a batch waits for more after its first message, 0 to
                60.
            ack_policy: FastStream's policy; nack on error if neither this nor the broker says.
            topic_schema: Pydantic model of the topic's messages: with `autocreate` the topic gets
                its Avro schema, in JSON, by which the service validates what is published.
            no_reply: Don't publish the result to the message's `reply_to` topic.
            dependencies: `Depends` that run before the handler.
            parser: Custom parser.
            decoder: Custom decoder; it sees the body as it came.
            codec: Custom codec, instead of a decoder.
            persistent: Keep the subscriber alive with its broker.
            title: AsyncAPI title.
            description: AsyncAPI description.
            include_in_schema: Show it in the AsyncAPI document.

        Raises:
            SetupError: A setting is out of its range, or Avro has no word for a type of
                `topic_schema`; the text names both.
        """
        if not topic and not subscription:
            raise SetupError("a subscriber needs a topic, a subscription, or both.")
        if not topic and dead_letter_topic and autocreate:
            raise SetupError(f"subscription {subscription!r} can't be created without a topic.")
        if topic_schema is not None and (not topic or codec is not None):
            raise SetupError("topic_schema needs a topic, and reads its messages without a codec.")
        check_text("topic", topic or "")
        check_text("subscription", subscription or "")
        check_text("dead_letter_topic", dead_letter_topic or "")
        check_text("filter", filter)
        if ack_policy is not EMPTY and not isinstance(ack_policy, AckPolicy):
            raise SetupError(f"ack_policy={ack_policy!r} must be an AckPolicy.")
        settings = SubscriptionSettings(
            ack_deadline_seconds=ack_deadline_seconds,
            enable_message_ordering=enable_message_ordering,
            enable_exactly_once_delivery=enable_exactly_once_delivery,
            filter=filter,
            retry_policy=retry_policy,
            dead_letter_topic=dead_letter_topic,
            max_delivery_attempts=max_delivery_attempts,
            autocreate=autocreate,
            autoupdate=autoupdate,
            max_messages=default_max_messages(batch=batch, max_batch_size=max_batch_size)
            if max_messages is None
            else max_messages,
            max_bytes=max_bytes,
            max_workers=max_workers,
            max_lease_seconds=max_lease_seconds,
            max_silence_seconds=max_silence_seconds,
            batch=batch,
            max_batch_size=max_batch_size,
            max_batch_wait_seconds=max_batch_wait_seconds,
        )
        outer = cast("PubSubBrokerConfig", self.config)
        calls = CallsCollection[Delivery]()
        declared = PubSubSubscriber(
            PubSubSubscriberConfig(
                topic=topic,
                subscription=subscription,
                settings=settings,
                topic_schema=TopicSchema.of(topic_schema),
                no_reply=no_reply,
                _outer_config=outer,
                _ack_policy=ack_policy,
            ),
            PubSubSubscriberSpecification(
                outer,
                PubSubSubscriberSpecificationConfig(
                    topic=topic,
                    subscription=subscription,
                    title_=title,
                    description_=description,
                    include_in_schema=include_in_schema,
                ),
                calls,
            ),
            calls,
        )
        declared.check_names(is_whole=self._has_whole_names)
        super().subscriber(declared, persistent=persistent)
        return declared.add_call(
            parser_=parser or self._parser,
            decoder_=decoder or self._decoder,
            codec_=codec,
            dependencies_=dependencies,
        )

    def publisher(  # type: ignore[override]  # noqa: PLR0913 - as `subscriber`
        self,
        topic: str,
        *,
        attributes: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        ordering_key: str = "",
        reply_to: str = "",
        skip_none: bool = False,
        batch: bool = False,
        topic_schema: type[BaseModel] | TopicSchema | None = None,
        persistent: bool = True,
        title: str | None = None,
        description: str | None = None,
        schema: object | None = None,
        include_in_schema: bool = True,
    ) -> PubSubPublisherUsecase:
        """Declare a publisher, to call `publish` on or to decorate handlers with.

        Args:
            topic: Topic ID or full name.
            attributes: Attributes of every message.
            headers: The same, under the name that FastStream's brokers share.
            ordering_key: Ordering key of every message that brings none.
            reply_to: Topic that handlers of the messages reply to.
            skip_none: As a decorator, publish nothing when the handler returns None; else an
                empty message is published, as with all of FastStream's brokers.
            batch: As a decorator, publish each element of the handler's list as a message of its
                own; with `skip_none`, an empty list publishes nothing.
            topic_schema: Pydantic model of the topic's messages, as for `subscriber`.
            persistent: Keep the publisher alive with its broker.
            title: AsyncAPI title.
            description: AsyncAPI description.
            schema: AsyncAPI type of the messages.
            include_in_schema: Show it in the AsyncAPI document.
        """
        check_text("topic", topic)
        given = {**(headers or {}), **(attributes or {})}
        try:
            build_message(b"-", {k: as_text(k, v) for k, v in given.items()}, ordering_key)
        except InvalidMessageError as error:
            raise SetupError(f"publisher of {topic!r}: {error}") from error
        outer = cast("PubSubBrokerConfig", self.config)
        declared = PubSubPublisherUsecase(
            PubSubPublisherConfig(
                topic=topic,
                attributes=given,
                ordering_key=ordering_key,
                reply_to=reply_to,
                skip_none=skip_none,
                batch=batch,
                topic_schema=TopicSchema.of(topic_schema),
                _outer_config=outer,
            ),
            PubSubPublisherSpecification(
                outer,
                PubSubPublisherSpecificationConfig(
                    topic=topic,
                    schema_=schema,
                    title_=title,
                    description_=description,
                    include_in_schema=include_in_schema,
                ),
            ),
        )
        declared.check_names(is_whole=self._has_whole_names)
        super().publisher(declared, persistent=persistent)
        return declared

    def include_router(  # type: ignore[override] # only routers of this broker can be included
        self,
        router: "PubSubRegistrator",
        *,
        prefix: str = "",
        dependencies: Sequence[Dependency] = (),
        middlewares: Sequence[BrokerMiddleware[Any, Any]] = (),
        include_in_schema: bool | None = None,
    ) -> None:
        """Include a router; the prefix goes before its topics and subscriptions."""
        if not isinstance(router, PubSubRegistrator):
            raise TypeError(
                f"only a PubSubRouter can be included, not a {type(router).__name__}.",
            )
        super().include_router(
            router,
            prefix=prefix,
            dependencies=dependencies,
            middlewares=middlewares,
            include_in_schema=include_in_schema,
        )
        # those of publishers are checked when the broker starts: many are never published to
        for subscriber in router.subscribers:
            if isinstance(subscriber, PubSubSubscriber):
                subscriber.check_names(is_whole=self._has_whole_names)
