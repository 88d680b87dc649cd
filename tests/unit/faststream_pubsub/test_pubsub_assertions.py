"""Call assertions: what a test may ask a handler or a publisher."""

import pytest
from faststream.exceptions import SetupError

from faststream_pubsub import PubSubBroker, TestPubSubBroker


@pytest.fixture
def broker():
    return PubSubBroker(logger=None)


async def test_handler_and_publisher_tell_of_their_calls(broker):
    publisher = broker.publisher("packed", ordering_key="shop")

    @publisher
    @broker.subscriber("orders")
    async def pack(number: int) -> int:
        return number + 1

    async with TestPubSubBroker(broker):
        await broker.publish(7, "orders", attributes={"to": "x"}, ordering_key="k")
        await pack.assert_called_once_with(7, attributes={"to": "x"}, ordering_key="k")
        await publisher.assert_called_once_with(8, ordering_key="shop")
        await broker.publish(9, "orders", correlation_id="c")
        await pack.assert_called_with(9, ordering_key="", correlation_id="c")
        await pack.assert_any_call(7, headers={"to": "x"})
        with pytest.raises(AssertionError, match="ordering_key: expected 'm', got ''"):
            await pack.assert_called_with(9, ordering_key="m")
        with pytest.raises(AssertionError, match=r"headers: expected \{'to': 'x'\}"):
            await pack.assert_called_with(9, attributes={"to": "x"})
        with pytest.raises(TypeError, match="partition"):
            await pack.assert_any_call(7, partition=1)


async def test_a_batch_tells_of_its_bodies_only(broker):
    @broker.subscriber("orders", batch=True)
    async def read(numbers: list[int]) -> None: ...

    async with TestPubSubBroker(broker):
        await broker.publish_batch(1, 2, topic="orders")
        await read.assert_called_once_with([1, 2])
        with pytest.raises(SetupError, match="ordering_key"):
            await read.assert_called_once_with([1, 2], ordering_key="k")


async def test_publisher_is_observed_where_its_topic_is_read_or_by_one_made_up(broker):
    read_by_one, read_by_none = broker.publisher("read"), broker.publisher("unread")

    @broker.subscriber("read")
    async def read(number: int) -> None: ...

    async with TestPubSubBroker(broker):
        assert sorted(one.topic for one in broker.subscribers) == ["read", "unread"]
        await read_by_one.publish(1)
        await read_by_none.publish(2)
        await read.assert_called_once_with(1)
        await read_by_one.assert_called_once_with(1)
        await read_by_none.assert_called_once_with(2)
    assert [one.topic for one in broker.subscribers] == ["read"]
