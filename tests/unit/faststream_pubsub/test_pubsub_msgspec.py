"""Handlers typed with msgspec's structs instead of pydantic's models."""

import msgspec
import pytest
from fast_depends.exceptions import ValidationError
from fast_depends.msgspec import MsgSpecSerializer

from faststream_pubsub import PubSubBroker, TestPubSubBroker


class Order(msgspec.Struct):
    number: int


async def test_struct_is_decoded_and_published() -> None:
    broker = PubSubBroker("project", serializer=MsgSpecSerializer())
    packed: list[Order] = []

    @broker.subscriber("orders")
    @broker.publisher("orders-packed")
    async def pack(order: Order) -> Order:
        return Order(number=order.number + 1)

    @broker.subscriber("orders-packed")
    async def ship(order: Order) -> None:
        packed.append(order)

    async with TestPubSubBroker(broker):
        await broker.publish(Order(number=7), topic="orders")
    assert packed == [Order(number=8)]


async def test_body_that_does_not_fit_a_struct_is_an_error() -> None:
    broker = PubSubBroker("project", serializer=MsgSpecSerializer())

    @broker.subscriber("orders")
    async def pack(order: Order) -> None:
        pytest.fail(f"handled {order}")

    async with TestPubSubBroker(broker):
        with pytest.raises(ValidationError, match="order"):
            await broker.publish({"number": "seven"}, topic="orders")
