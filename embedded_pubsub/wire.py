"""Responses as bytes.

A message is kept serialized. A protobuf field of message type is its bytes behind a tag and a
length (protobuf documentation, "Encoding"), so that a delivery is put together without parsing
what is delivered.
"""

from collections.abc import Sequence

from embedded_pubsub.leases import Lease
from embedded_pubsub.protos import Proto, StreamingPullResponse
from embedded_pubsub.varints import varint

_RECEIVED_MESSAGES = b"\x0a"
_ACK_ID = b"\x0a"
_MESSAGE = b"\x12"
_DELIVERY_ATTEMPT = b"\x18"


def received_messages(leases: Sequence[Lease], bodies: Sequence[bytes], *, attempts: bool) -> bytes:
    """Serialize deliveries as field 1 (`received_messages`) of either pull response.

    Args:
        leases: The deliveries.
        bodies: Their serialized `PubsubMessage`s.
        attempts: Whether to tell the `delivery_attempt`.
    """
    parts: list[bytes] = []
    for lease, body in zip(leases, bodies, strict=True):
        ack_id = lease.ack_id.encode()
        head = _ACK_ID + varint(len(ack_id)) + ack_id + _MESSAGE + varint(len(body))
        tail = _DELIVERY_ATTEMPT + varint(lease.entry.failures + 1) if attempts else b""
        size = varint(len(head) + len(body) + len(tail))
        parts += (_RECEIVED_MESSAGES, size, head, body, tail)
    return b"".join(parts)


def subscription_properties(subscription: Proto) -> bytes:
    """Serialize what a streaming pull response tells of its subscription."""
    response = StreamingPullResponse()
    properties = response.subscription_properties
    properties.exactly_once_delivery_enabled = subscription.enable_exactly_once_delivery
    properties.message_ordering_enabled = subscription.enable_message_ordering
    return bytes(response.SerializeToString())
