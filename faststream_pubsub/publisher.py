from collections.abc import Iterable
from typing import Any

from faststream.response import PublishCommand
from faststream.response.publish_type import PublishType
from faststream.specification.asyncapi.utils import resolve_payloads
from faststream.specification.schema import Message, Operation, PublisherSpec

from faststream_pubsub._faststream import (
    FakePublisher,
    ProducerProto,
    PublisherMiddleware,
    PublisherSpecification,
    PublisherUsecase,
    SendableMessage,
)
from faststream_pubsub.assertions import PubSubCallAssertions, PubSubHandlerCallWrapper
from faststream_pubsub.config import (
    PubSubBrokerConfig,
    PubSubPublisherConfig,
    PubSubPublisherSpecificationConfig,
)
from faststream_pubsub.message import PubSubMessage
from faststream_pubsub.names import add_prefix, check_name
from faststream_pubsub.response import PubSubPublishCommand


class PubSubPublisherUsecase(PubSubCallAssertions, PublisherUsecase):
    """Publishes to one topic; also decorates handlers whose results go there."""

    _call_wrapper_class = PubSubHandlerCallWrapper
    _outer_config: PubSubBrokerConfig

    def __init__(
        self,
        config: PubSubPublisherConfig,
        specification: PublisherSpecification[Any, Any],
    ) -> None:
        super().__init__(config, specification)
        self._topic = config.topic
        self.attributes = config.attributes
        self.ordering_key = config.ordering_key
        self.reply_to = config.reply_to
        self.skip_none = config.skip_none
        self.batch = config.batch
        self.topic_schema = config.topic_schema

    @property
    def topic(self) -> str:
        """Topic with the router's prefix."""
        return add_prefix(self._outer_config.prefix, self._topic)

    def check_names(self, *, is_whole: bool) -> None:
        """Check the topic's name; a whole one has all its prefixes.

        Raises:
            SetupError: It can't be the name of a Pub/Sub topic.
        """
        check_name("topics", self.topic, is_whole=is_whole)
        if self.reply_to:
            check_name("topics", self.reply_to, is_whole=True)

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
        """Publish a message; arguments go before what the publisher was declared with.

        Returns:
            The message ID.
        """
        cmd = PubSubPublishCommand(
            message,
            topic=topic or self.topic,
            headers={**self.attributes, **(headers or {}), **(attributes or {})},
            ordering_key=ordering_key or self.ordering_key,
            correlation_id=correlation_id or self._outer_config.id_generator(),
            reply_to=reply_to or self.reply_to,
            _publish_type=PublishType.PUBLISH,
        )
        message_id: str = await self._basic_publish(
            cmd,
            producer=self._outer_config.producer,
            _extra_middlewares=(),
        )
        return message_id

    async def publish_batch(
        self,
        *messages: SendableMessage,
        topic: str = "",
        attributes: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        ordering_key: str = "",
        correlation_id: str | None = None,
        reply_to: str = "",
    ) -> list[str]:
        """Publish several messages; see `publish` and `PubSubBroker.publish_batch`.

        Returns:
            Their message IDs, in order.
        """
        cmd = PubSubPublishCommand(
            *(messages or (None,)),
            topic=topic or self.topic,
            headers={**self.attributes, **(headers or {}), **(attributes or {})},
            ordering_key=ordering_key or self.ordering_key,
            correlation_id=correlation_id or self._outer_config.id_generator(),
            reply_to=reply_to or self.reply_to,
            _publish_type=PublishType.PUBLISH,
        )
        message_ids: list[str] = await self._basic_publish_batch(
            cmd,
            producer=self._outer_config.producer,
            _extra_middlewares=(),
        )
        return message_ids

    async def _publish(
        self,
        cmd: PublishCommand,
        *,
        _extra_middlewares: Iterable[PublisherMiddleware],
    ) -> None:
        if self.skip_none and (cmd.body is None or (self.batch and not cmd.body)):
            return
        own = PubSubPublishCommand.from_cmd(cmd, batch=self.batch)
        own.destination = own.destination or self.topic
        own.reply_to = own.reply_to or self.reply_to
        own.ordering_key = own.ordering_key or self.ordering_key
        own.add_headers(self.attributes, override=False)
        publish = self._basic_publish_batch if self.batch else self._basic_publish
        await publish(
            own,
            producer=self._outer_config.producer,
            _extra_middlewares=_extra_middlewares,
        )

    async def request(
        self,
        message: SendableMessage = None,
        topic: str = "",
        *,
        attributes: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        ordering_key: str = "",
        correlation_id: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - the name that FastStream's brokers share
    ) -> PubSubMessage:
        """Publish a message and wait for its reply; see `PubSubBroker.request`."""
        cmd = PubSubPublishCommand(
            message,
            topic=topic or self.topic,
            headers={**self.attributes, **(headers or {}), **(attributes or {})},
            ordering_key=ordering_key or self.ordering_key,
            correlation_id=correlation_id or self._outer_config.id_generator(),
            timeout=timeout,
            _publish_type=PublishType.REQUEST,
        )
        reply: PubSubMessage = await self._basic_request(cmd, producer=self._outer_config.producer)
        return reply


class PubSubReplyPublisher(FakePublisher):
    """Publishes a handler's result to the topic that its message names in `reply_to`."""

    def __init__(self, producer: ProducerProto[Any], *, topic: str) -> None:
        super().__init__(producer=producer)
        self.topic = topic

    def patch_command(self, cmd: PublishCommand) -> PubSubPublishCommand:
        """Direct a command to the reply topic."""
        own = PubSubPublishCommand.from_cmd(super().patch_command(cmd))
        own.destination = self.topic
        return own


class PubSubPublisherSpecification(
    PublisherSpecification[PubSubBrokerConfig, PubSubPublisherSpecificationConfig],
):
    """A publisher's entry in the AsyncAPI document."""

    @property
    def topic(self) -> str:
        """Topic with the router's prefix."""
        return add_prefix(self._outer_config.prefix, self.config.topic)

    @property
    def name(self) -> str:
        """Key of the channel."""
        return self.config.title_ or f"{self.topic}:Publisher"

    def get_schema(self) -> dict[str, PublisherSpec]:
        """Render the entry."""
        payload = resolve_payloads(self.get_payloads(), "Publisher")
        return {
            self.name: PublisherSpec(
                address=self.topic,
                description=self.config.description_,
                operation=Operation(
                    message=Message(title=f"{self.name}:Message", payload=payload),
                    bindings=None,
                ),
                bindings=None,
            ),
        }
