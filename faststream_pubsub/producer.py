import asyncio
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

from faststream.exceptions import SetupError
from faststream.message import encode_message

from faststream_pubsub._faststream import (
    AsyncCallable,
    BatchCodecProto,
    CodecProto,
    CustomCallable,
    DefaultCodec,
    ParserComposition,
    ProducerProto,
    SendableMessage,
)
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.message import CONTENT_TYPE, CORRELATION_ID, REPLY_TO
from faststream_pubsub.names import resource_path
from faststream_pubsub.parser import PubSubParser
from faststream_pubsub.publishing import as_text, build_message
from faststream_pubsub.response import Own, PubSubPublishCommand
from faststream_pubsub.service import Service
from faststream_pubsub.wire import Proto

if TYPE_CHECKING:
    from fast_depends.library.serializer import SerializerProto


class PubSubProducer(ProducerProto[PubSubPublishCommand]):
    """Encodes commands and hands them to the service."""

    _parser: AsyncCallable
    _decoder: AsyncCallable

    def __init__(self, parser: CustomCallable | None, decoder: CustomCallable | None) -> None:
        default = PubSubParser()
        self._parser = ParserComposition(parser, default.parse_message)
        self._decoder = ParserComposition(decoder, default.decode_message)
        self._service: Service | None = None
        self.serializer: SerializerProto | None = None
        self.codec: CodecProto = DefaultCodec()

    def connect(
        self, service: Service, serializer: "SerializerProto | None", codec: CodecProto | None
    ) -> None:
        """Take up the connected service and how bodies are encoded."""
        self._service = service
        self.serializer = serializer
        self.codec = codec or DefaultCodec()

    def disconnect(self) -> None:
        """Forget the service."""
        self._service = None

    async def publish(self, cmd: PubSubPublishCommand) -> str:
        """Publish one message and return its ID."""
        return await self.send(cmd)

    def send(self, cmd: PubSubPublishCommand) -> Awaitable[str]:
        """Publish one message; what is returned waits for its ID."""
        if type(self.codec) is not DefaultCodec:
            return self._send_encoded(cmd)
        service = self._connected()
        topic = self._topic(service, cmd)
        # what the default codec does, without a coroutine
        data, content_type = encode_message(cmd.body, self.serializer)
        message = build_message(data, _attributes(cmd, content_type), cmd.ordering_key)
        return service.publish(topic, message)

    async def _send_encoded(self, cmd: PubSubPublishCommand) -> str:
        service = self._connected()
        topic = self._topic(service, cmd)
        return await service.publish(topic, await self._encode(cmd, cmd.body))

    async def publish_batch(self, cmd: PubSubPublishCommand) -> list[str]:
        """Publish several messages and return their IDs, in their order."""
        service = self._connected()
        topic = self._topic(service, cmd)
        return await service.publish_batch(topic, await self._encode_all(cmd))

    async def request(self, cmd: PubSubPublishCommand) -> Delivery:
        """Publish one message and wait for its reply.

        Raises:
            TimeoutError: There was none within the command's timeout.
        """
        service = self._connected()
        topic = self._topic(service, cmd)
        message = await self._encode(cmd, cmd.body)
        try:
            async with asyncio.timeout(cmd.timeout):
                return await service.request(topic, message)
        except TimeoutError:
            raise TimeoutError(f"no reply came from {topic} within {cmd.timeout} s.") from None

    def _connected(self) -> Service:
        if self._service is None:
            raise SetupError("PubSubBroker is not connected: call `await broker.connect()` first.")
        return self._service

    def _topic(self, service: Service, cmd: PubSubPublishCommand) -> str:
        if not cmd.destination:
            raise SetupError("publish needs a topic.")
        if cmd.reply_to:
            # a handler that can't reply would get its message again and again
            resource_path(service.project, "topics", cmd.reply_to)
        return resource_path(service.project, "topics", cmd.destination)

    async def _encode_all(self, cmd: PubSubPublishCommand) -> list[Proto]:
        bodies = cmd.batch_bodies
        if isinstance(self.codec, BatchCodecProto):
            encoded = await self.codec.encode_batch(bodies, self.serializer)
        else:
            encoded = [await self.codec.encode(body, self.serializer) for body in bodies]
        if not cmd.own:
            return [
                build_message(data, _attributes(cmd, content_type), cmd.ordering_key)
                for data, content_type in encoded
            ]
        return [
            build_message(
                data, _attributes(cmd, content_type, own), own.ordering_key or cmd.ordering_key
            )
            for (data, content_type), own in zip(encoded, cmd.own, strict=True)
        ]

    async def _encode(self, cmd: PubSubPublishCommand, body: SendableMessage) -> Proto:
        data, content_type = await self.codec.encode(body, self.serializer)
        attributes = _attributes(cmd, content_type)
        return build_message(data, attributes, cmd.ordering_key)


def _attributes(
    cmd: PubSubPublishCommand, content_type: str | None, own: Own | None = None
) -> Mapping[str, str]:
    attributes: dict[str, str] = {}
    if content_type:
        attributes[CONTENT_TYPE] = content_type
    correlation_id = cmd.correlation_id if own is None else own.correlation_id or cmd.correlation_id
    if correlation_id:
        attributes[CORRELATION_ID] = correlation_id
    if cmd.reply_to:
        attributes[REPLY_TO] = cmd.reply_to
    headers = cmd.headers if own is None else cmd.headers | own.headers
    for key, value in headers.items():
        attributes[key] = value if isinstance(value, str) else as_text(key, value)
    return attributes
