"""Requests that are put together from serialized parts."""

import pytest

from faststream_pubsub import wire


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 3_000_000])
def test_request_is_what_protobuf_makes_of_it(size):
    messages = [
        wire.PubsubMessage(data=b"x" * size, attributes={"a": "b"}, ordering_key="k"),
        wire.PubsubMessage(data=b"second"),
        wire.PubsubMessage(attributes={"only": "attributes"}),
    ]
    topic = "projects/p/topics/orders"
    whole = wire.PublishRequest(topic=topic, messages=messages)
    parts = [message.SerializeToString() for message in messages]
    assert wire.publish_request(topic, parts) == whole.SerializeToString()
