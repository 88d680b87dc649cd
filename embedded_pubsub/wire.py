"""Responses as bytes.

A message is kept serialized. A protobuf field of message type is its bytes behind a tag and a
length (protobuf documentation, "Encoding"), so that a delivery is put together without parsing
what is delivered.
"""

from collections.abc import Iterable

from embedded_pubsub.delivery import Lease
from embedded_pubsub.protos import Proto, ReceivedMessage, StreamingPullResponse

_RECEIVED_MESSAGES = b"\x0a"
_MESSAGE = b"\x12"


def received_messages(leases: Iterable[Lease], *, attempts: bool) -> bytes:
    """Serialize deliveries as field 1 (`received_messages`) of either pull response.

    Args:
        leases: The deliveries.
        attempts: Whether to tell the `delivery_attempt`.
    """
    parts: list[bytes] = []
    for lease in leases:
        entry = lease.entry
        attempt = entry.failures + 1 if attempts else 0
        head = ReceivedMessage(ack_id=lease.ack_id, delivery_attempt=attempt).SerializeToString()
        body = lease.transformed or entry.message.body
        tag = _MESSAGE + _varint(len(body))
        size = _varint(len(head) + len(tag) + len(body))
        parts += (_RECEIVED_MESSAGES, size, head, tag, body)
    return b"".join(parts)


def subscription_properties(subscription: Proto) -> bytes:
    """Serialize what a streaming pull response tells of its subscription."""
    response = StreamingPullResponse()
    properties = response.subscription_properties
    properties.exactly_once_delivery_enabled = subscription.enable_exactly_once_delivery
    properties.message_ordering_enabled = subscription.enable_message_ordering
    return bytes(response.SerializeToString())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
