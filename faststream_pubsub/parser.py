from typing import Any, Final, NamedTuple

from faststream.message import StreamMessage, decode_message

from faststream_pubsub._faststream import DecodedMessage, json_loads
from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.deliveries import Batch, Delivery
from faststream_pubsub.message import (
    CONTENT_TYPE,
    CORRELATION_ID,
    PubSubBatchMessage,
    PubSubMessage,
    attributes_of,
)

_JSON: Final = "application/json"


class PubSubParser:
    """Reads a delivery; what is not in the message is taken from its attributes."""

    __slots__ = ()

    async def parse_message(self, delivery: Delivery) -> PubSubMessage:
        """Wrap a delivery. The body is the data as it came."""
        return PubSubMessage.of(delivery)

    async def decode_message(self, message: StreamMessage[Any]) -> DecodedMessage:
        """Decode by content type, as all of FastStream's brokers do."""
        return _decode(message)


class SchemaParser(PubSubParser):
    """Reads deliveries of a topic that has a schema."""

    __slots__ = ("_schema",)

    def __init__(self, schema: TopicSchema) -> None:
        self._schema = schema

    async def decode_message(self, message: StreamMessage[Any]) -> DecodedMessage:
        """Decode what Avro writes as JSON; a middleware may have changed the body."""
        return _decode(_Part(self._schema.from_avro(message.body), message.content_type))


class PubSubBatchParser:
    """Reads deliveries that a handler takes together."""

    __slots__ = ("_schema",)

    def __init__(self, schema: TopicSchema | None = None) -> None:
        self._schema = schema

    async def parse_batch(self, batch: Batch) -> PubSubBatchMessage:
        """Wrap deliveries. The body is the list of their data, as it came."""
        first, first_id = attributes_of(batch[0]), batch[0].message_id
        return PubSubBatchMessage(
            raw_message=batch,
            body=[delivery.message.data for delivery in batch],
            headers=first,
            content_type=first.get(CONTENT_TYPE),
            correlation_id=first.get(CORRELATION_ID) or first_id,
            message_id=f"{first_id}-{batch[-1].message_id}",
        )

    # FastStream tells batches by this very name
    async def decode_batch(self, message: StreamMessage[Any]) -> list[DecodedMessage]:
        """Decode each message by its own content type; a middleware may have changed the body."""
        bodies = map(self._schema.from_avro, message.body) if self._schema else message.body
        if isinstance(message, PubSubBatchMessage):
            kinds = message.content_types()
        else:
            kinds = [headers.get(CONTENT_TYPE) for headers in message.batch_headers]
        return [
            json_loads(body) if kind == _JSON else decode_message(_Part(body, kind))  # type: ignore[arg-type] # as in _decode
            for body, kind in zip(bodies, kinds, strict=True)
        ]


class _Part(NamedTuple):
    body: bytes
    content_type: str | None


def _decode(message: "StreamMessage[Any] | _Part") -> DecodedMessage:
    if message.content_type == _JSON:
        # what FastStream's function comes to, which asks what else it could be first
        decoded: DecodedMessage = json_loads(message.body)
        return decoded
    return decode_message(message)  # type: ignore[arg-type] # it reads these two attributes only
