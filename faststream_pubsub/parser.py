from typing import Any, Final

from faststream.message import StreamMessage, decode_message

from faststream_pubsub._faststream import DecodedMessage
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.message import PubSubMessage

CONTENT_TYPE: Final = "content-type"
CORRELATION_ID: Final = "correlation_id"
REPLY_TO: Final = "reply_to"


class PubSubParser:
    """Reads a delivery; what is not in the message is taken from its attributes."""

    __slots__ = ()

    async def parse_message(self, delivery: Delivery) -> PubSubMessage:
        """Wrap a delivery. The body is the data as it came."""
        message = delivery.message
        attributes = dict(message.attributes)
        message_id = message.message_id
        return PubSubMessage(
            raw_message=delivery,
            body=message.data,
            headers=attributes,
            reply_to=attributes.get(REPLY_TO, ""),
            content_type=attributes.get(CONTENT_TYPE),
            correlation_id=attributes.get(CORRELATION_ID) or message_id,
            message_id=message_id,
        )

    async def decode_message(self, message: StreamMessage[Any]) -> DecodedMessage:
        """Decode by content type, as all of FastStream's brokers do."""
        return decode_message(message)
