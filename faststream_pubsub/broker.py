import asyncio
import logging
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fast_depends import Provider, dependency_provider
from faststream.exceptions import SetupError
from faststream.middlewares import AckPolicy
from faststream.response.publish_type import PublishType
from faststream.security import (
    SASLGSSAPI,
    BaseSecurity,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
)
from faststream.specification.schema import BrokerSpec

from faststream_pubsub._faststream import (
    EMPTY,
    BrokerMiddleware,
    BrokerUsecase,
    CodecProto,
    ContextRepo,
    CustomCallable,
    Dependency,
    FastDependsConfig,
    IdGenerator,
    LoggerProto,
    SendableMessage,
    UnderlyingDriverAnnotations,
)
from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.client import PubSubClient
from faststream_pubsub.config import PubSubBrokerConfig
from faststream_pubsub.connection import SERVICE_TARGET, Credentials, connect
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.flow import PublishBatching, PublishFlow
from faststream_pubsub.holdings import FLUSH_SECONDS
from faststream_pubsub.ids import make_correlation_id
from faststream_pubsub.logs import make_pubsub_logger_state
from faststream_pubsub.message import PubSubMessage
from faststream_pubsub.names import resource_path
from faststream_pubsub.producer import PubSubProducer
from faststream_pubsub.publisher import PubSubPublisherUsecase
from faststream_pubsub.registrator import PubSubRegistrator
from faststream_pubsub.response import PubSubPublishCommand
from faststream_pubsub.service import PubSubService, Rights, Service
from faststream_pubsub.settings import check_range
from faststream_pubsub.subscriber import PubSubSubscriber
from faststream_pubsub.watchdog import PubSubHealth

if TYPE_CHECKING:
    from fast_depends.library.serializer import SerializerProto
    from faststream.specification.schema.extra import Tag, TagDict

_PING_SECONDS = 5.0
_LEAST_FLUSH_SECONDS = 1.0
_PUBLISH_BATCHING = PublishBatching()
_PUBLISH_FLOW = PublishFlow()


class PubSubBroker(PubSubRegistrator, BrokerUsecase[Delivery, Service, PubSubBrokerConfig]):
    """FastStream broker for Google Cloud Pub/Sub."""

    _has_whole_names = True

    def __init__(  # noqa: PLR0913 - FastStream's brokers take their settings as arguments
        self,
        project: str | None = None,
        *,
        emulator_host: str | None = None,
        target: str | None = None,
        credentials: Credentials | None = None,
        autocreate: bool = True,
        autoupdate: bool = False,
        publish_patience_seconds: float = 60.0,
        publish_batching: PublishBatching = _PUBLISH_BATCHING,
        publish_flow: PublishFlow = _PUBLISH_FLOW,
        publish_compression_bytes: int | None = None,
        graceful_timeout: float | None = 15.0,
        decoder: CustomCallable | None = None,
        parser: CustomCallable | None = None,
        codec: CodecProto | None = None,
        dependencies: Sequence[Dependency] = (),
        middlewares: Sequence[BrokerMiddleware[Any, Any]] = (),
        routers: Iterable[PubSubRegistrator] = (),
        ack_policy: AckPolicy = EMPTY,
        id_generator: IdGenerator = make_correlation_id,
        # AsyncAPI
        specification_url: str | None = None,
        protocol: str | None = None,
        protocol_version: str | None = None,
        description: str | None = None,
        tags: "Iterable[Tag | TagDict]" = (),
        security: BaseSecurity | None = None,
        # logging
        logger: LoggerProto | None = EMPTY,
        log_level: int = logging.INFO,
        # FastDepends
        apply_types: bool = True,
        serializer: "SerializerProto | None" = EMPTY,
        provider: Provider | None = None,
        context: ContextRepo | None = None,
        underlying_driver_annotations: UnderlyingDriverAnnotations | None = None,
    ) -> None:
        """Prepare a broker; nothing is connected yet.

        Args:
            project: Project ID; else GOOGLE_CLOUD_PROJECT, else that of the credentials, else
                `local-project` with an emulator.
            emulator_host: `host:port` of an emulator; else PUBSUB_EMULATOR_HOST, which is read
                when the broker connects.
            target: `host:port` of the service, a regional endpoint for instance.
            credentials: Credentials of google-auth, or a whole `grpc.ChannelCredentials` (other
                root certificates, mTLS); else the default ones. An emulator is asked without.
            autocreate: Create topics and subscriptions that are absent.
            autoupdate: Change subscriptions that are there to what is declared; else a difference
                is told as a warning. What can't be changed is an error either way.
            publish_patience_seconds: How long a publish is tried again after transient errors.
            publish_batching: When a publish request is sent: messages, bytes, latency.
            publish_flow: Limits of what is published and not confirmed yet, and what happens there.
            publish_compression_bytes: Compress publish requests of this size and above with gzip:
                less traffic for more CPU. None compresses none.
            graceful_timeout: How long `stop` waits for running handlers; None or 0 doesn't wait.
            decoder: Custom decoder.
            parser: Custom parser.
            codec: Custom codec, instead of a decoder.
            dependencies: `Depends` of every handler.
            middlewares: Middlewares of every handler and publisher.
            routers: Routers to include.
            ack_policy: Policy of handlers that bring none; nack on error if it is left out.
            id_generator: Makes correlation IDs.
            specification_url: AsyncAPI server URL.
            protocol: AsyncAPI protocol.
            protocol_version: AsyncAPI protocol version.
            description: AsyncAPI description.
            tags: AsyncAPI tags.
            security: What AsyncAPI says of security; the connection itself uses `credentials`.
            logger: Logger, or None for none.
            log_level: Level of ordinary records.
            apply_types: Validate handlers' arguments by their annotations.
            serializer: FastDepends serializer.
            provider: FastDepends provider.
            context: Context repository.
            underlying_driver_annotations: Classes that handlers must not ask for by type.
        """
        check_range("publish_patience_seconds", publish_patience_seconds, 0, 600)
        if publish_compression_bytes is not None:
            check_range("publish_compression_bytes", publish_compression_bytes, 0, 10_000_000)
        for setting, value, kind in (
            ("publish_batching", publish_batching, PublishBatching),
            ("publish_flow", publish_flow, PublishFlow),
        ):
            if not isinstance(value, kind):
                raise SetupError(f"{setting}={value!r} must be a {kind.__name__}.")
        if graceful_timeout is not None:
            check_range("graceful_timeout", graceful_timeout, 0, 86_400)
        if isinstance(security, SASLPlaintext | SASLScram256 | SASLScram512 | SASLGSSAPI):
            raise SetupError(
                f"security={type(security).__name__}: Pub/Sub knows no such login; pass "
                "credentials=, and a BaseSecurity or SASLOAuthBearer for the AsyncAPI document.",
            )
        self._project = project
        self._emulator_host = emulator_host
        self._target = target
        self._credentials = credentials
        self._publish_options: dict[str, Any] = {
            "publish_patience_seconds": publish_patience_seconds,
            "publish_batching": publish_batching,
            "publish_flow": publish_flow,
            "publish_compression_bytes": publish_compression_bytes,
        }
        super().__init__(
            routers=routers,
            config=PubSubBrokerConfig(
                autocreate=autocreate,
                autoupdate=autoupdate,
                producer=PubSubProducer(parser, decoder),
                broker_middlewares=middlewares,
                broker_parser=parser,
                broker_decoder=decoder,
                broker_codec=codec,
                logger=make_pubsub_logger_state(logger=logger, log_level=log_level),
                fd_config=FastDependsConfig(
                    use_fastdepends=apply_types,
                    serializer=serializer,
                    provider=provider or dependency_provider,
                    context=context or ContextRepo(),
                ),
                broker_dependencies=dependencies,
                graceful_timeout=graceful_timeout,
                ack_policy=ack_policy,
                id_generator=id_generator,
                extra_context={"broker": self},
                underlying_driver_annotations=underlying_driver_annotations or {},
            ),
            specification=BrokerSpec(
                description=description,
                url=[specification_url or emulator_host or target or SERVICE_TARGET],
                protocol=protocol or "googlepubsub",
                protocol_version=protocol_version or "v1",
                tags=tags,
                security=security,
            ),
        )

    async def setup(self) -> None:
        """Connect and make sure that all declared subscriptions are there, without reading any.

        A producer calls it before it publishes: the service keeps no message for a subscription
        that is created later.

        Raises:
            SetupError: A publisher's topic, with all prefixes, can't be one.
            ConnectError: No project or no credentials.
            TopologyError: A topic or subscription can't be created or is different.
        """
        for publisher in self.publishers:
            if isinstance(publisher, PubSubPublisherUsecase):
                publisher.check_names(is_whole=True)
        await self.connect()
        await self._declare_schemas()
        declared = [one for one in self.subscribers if isinstance(one, PubSubSubscriber)]
        for subscriber in declared:
            await subscriber.ensure()
        for subscriber in declared:
            await subscriber.keep_letters()

    async def start(self) -> None:
        """Connect, make sure that subscriptions are there, and begin to read them.

        Raises:
            ConnectError: No project or no credentials.
            TopologyError: A topic or subscription can't be created or is different.
        """
        # a handler may publish to a topic whose subscriber is the next to start
        await self.setup()
        await super().start()

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Let running handlers finish, give back the rest, flush, and disconnect.

        Handlers have `graceful_timeout`; what has to be sent then has ten seconds more, so that a
        server that is gone holds nobody up.
        """
        now = asyncio.get_running_loop().time
        give_up_at = now() + (self.config.graceful_timeout or 0.0) + FLUSH_SECONDS
        try:
            await super().stop(exc_type, exc_val, exc_tb)
        finally:
            await self._disconnect(max(_LEAST_FLUSH_SECONDS, give_up_at - now()))

    async def ping(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - FastStream's signature
        """Tell whether the server answers.

        Args:
            timeout: Seconds to wait; 5 if left out.
        """
        if self._connection is None:
            return False
        return await self._connection.ping(timeout or _PING_SECONDS)

    def health(self) -> PubSubHealth:
        """Say how the broker is doing, at once and without a call, for a liveness probe.

        A subscription is unhealthy when it has had no living stream for 30 s. To learn whether the
        server answers right now, use `ping`.
        """
        readings = [
            (subscriber.reading, subscriber.subscription)
            for subscriber in self.subscribers
            if isinstance(subscriber, PubSubSubscriber)
        ]
        return PubSubHealth(
            is_connected=self._connection is not None,
            subscriptions=tuple(
                reading.health(name) for reading, name in readings if reading is not None
            ),
        )

    async def publish(
        self,
        message: SendableMessage = None,
        topic: str = "",
        *,
        attributes: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        ordering_key: str = "",
        correlation_id: str | None = None,
        reply_to: str = "",
    ) -> str:
        """Publish a message.

        Args:
            message: The body; what is neither bytes nor text is encoded as JSON.
            topic: Topic ID or full name.
            attributes: The message's attributes.
            headers: The same, under the name that FastStream's brokers share.
            ordering_key: Messages of one key are delivered in order to subscriptions that ask
                for it.
            correlation_id: Goes along as attribute `correlation_id`.
            reply_to: Topic that the handler's result goes to, as attribute `reply_to`.

        Returns:
            The message ID.

        Raises:
            InvalidMessageError: The message is beyond a limit of the service.
            PublishError: The service refused it, or could not be reached in time.
            FlowControlError: There is no room in `publish_flow`, which says to raise.
        """
        own: PubSubBrokerConfig = self.config.broker_config
        cmd = PubSubPublishCommand(
            message,
            topic=topic,
            headers={**(headers or {}), **(attributes or {})},
            ordering_key=ordering_key,
            correlation_id=correlation_id or own.id_generator(),
            reply_to=reply_to,
            _publish_type=PublishType.PUBLISH,
        )
        if not own.broker_middlewares:
            published = own.producer.send(cmd)
            # of many messages that wait, only what is sent is kept
            del cmd, message
            return await published
        message_id: str = await self._basic_publish(cmd, producer=own.producer)
        return message_id

    async def publish_batch(  # type: ignore[override] # FastStream's brokers name the target
        self,
        *messages: SendableMessage,
        topic: str = "",
        attributes: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        ordering_key: str = "",
        correlation_id: str | None = None,
        reply_to: str = "",
    ) -> list[str]:
        """Publish several messages to one topic.

        Returns:
            Their message IDs, in order.

        Raises:
            InvalidMessageError: A message is beyond a limit of the service; none was sent.
            PublishError: A message was not published; others may have been.
        """
        cmd = PubSubPublishCommand(
            *(messages or (None,)),
            topic=topic,
            headers={**(headers or {}), **(attributes or {})},
            ordering_key=ordering_key,
            correlation_id=correlation_id or self.config.id_generator(),
            reply_to=reply_to,
            _publish_type=PublishType.PUBLISH,
        )
        message_ids: list[str] = await self._basic_publish_batch(cmd, producer=self.config.producer)
        return message_ids

    async def request(  # type: ignore[override] # every broker's request adds its own arguments
        self,
        message: SendableMessage = None,
        topic: str = "",
        *,
        attributes: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        ordering_key: str = "",
        correlation_id: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - FastStream's signature
    ) -> PubSubMessage:
        """Publish a message and wait for what its handler returns.

        The reply comes over a topic of this broker's own, which is made with the first request
        and deleted on stop.

        Raises:
            TimeoutError: There was no reply within `timeout` seconds.
            PublishError: The message was not published.
        """
        cmd = PubSubPublishCommand(
            message,
            topic=topic,
            headers={**(headers or {}), **(attributes or {})},
            ordering_key=ordering_key,
            correlation_id=correlation_id or self.config.id_generator(),
            timeout=timeout,
            _publish_type=PublishType.REQUEST,
        )
        reply: PubSubMessage = await self._basic_request(cmd, producer=self.config.producer)
        return reply

    async def _declare_schemas(self) -> None:
        own: PubSubBrokerConfig = self.config.broker_config
        service = own.service
        schemas: dict[str, TopicSchema] = {}
        for one in (*self.subscribers, *self.publishers):
            if isinstance(one, PubSubSubscriber | PubSubPublisherUsecase) and one.topic_schema:
                topic = resource_path(service.project, "topics", one.topic)
                known = schemas.setdefault(topic, one.topic_schema)
                if known.definition != one.topic_schema.definition:
                    raise SetupError(
                        f"{topic} is declared with two schemas, {known.model.__name__} and "
                        f"{one.topic_schema.model.__name__}: a topic has one.",
                    )
        rights = Rights(create=own.autocreate, update=own.autoupdate)
        await service.declare_schemas(schemas, rights)

    async def _connect(self) -> Service:
        connection = await connect(
            project=self._project,
            emulator_host=self._emulator_host,
            target=self._target,
            credentials=self._credentials,
        )
        own: PubSubBrokerConfig = self.config.broker_config
        service = PubSubService(
            PubSubClient(connection),
            autocreate=own.autocreate,
            **self._publish_options,
        )
        own.connect(service)
        return service

    async def _disconnect(self, flush_seconds: float) -> None:
        service, self._connection = self._connection, None
        own: PubSubBrokerConfig = self.config.broker_config
        own.disconnect()
        if service is not None:
            await service.close(flush_seconds)
