"""Topics whose messages the server validates by a pydantic model."""

import pytest
from faststream.exceptions import SetupError
from pydantic import BaseModel

from faststream_pubsub import InvalidMessageError, PublishError, TopicSchema, TopologyError
from faststream_pubsub.annotations import PubSubMessage as Message


class Order(BaseModel):
    number: int
    note: str | None = None


def later_order() -> type[BaseModel]:
    class Order(BaseModel):
        number: int
        note: str | None = None
        shop: str | None = None

    return Order


LaterOrder = later_order()


async def test_messages_are_of_the_schema_on_the_wire_and_models_in_handlers(
    any_bench, name, inbox
):
    broker = any_bench.broker()
    publisher = broker.publisher(name, topic_schema=TopicSchema(Order, f"{name}-schema"))

    @broker.subscriber(name, topic_schema=TopicSchema(Order, f"{name}-schema"))
    async def read(order: Order, message: Message) -> None:
        await inbox.put((order, message.body))

    async with any_bench.running(broker):
        await publisher.publish(Order(number=1, note="x"))
        await broker.publish({"number": 2}, topic=name)
        seen = await inbox.wait_for(2)
    assert sorted(seen, key=lambda one: one[0].number) == [
        (Order(number=1, note="x"), b'{"note": {"string": "x"}, "number": 1}'),
        (Order(number=2), b'{"note": null, "number": 2}'),
    ]


async def test_batches_are_read_by_the_schema(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(name, batch=True, topic_schema=TopicSchema(Order, f"{name}-schema"))
    async def read(orders: list[Order]) -> None:
        for order in orders:
            await inbox.put(order)

    async with any_bench.running(broker):
        await broker.publish_batch(Order(number=1, note="x"), Order(number=2), topic=name)
        seen = await inbox.wait_for(2)
    assert sorted(seen, key=lambda one: one.number) == [
        Order(number=1, note="x"),
        Order(number=2),
    ]


async def test_server_refuses_what_is_not_of_the_schema(bench, name):
    broker = bench.broker()
    publisher = broker.publisher(name, topic_schema=TopicSchema(Order, f"{name}-schema"))
    async with bench.running(broker):
        with pytest.raises((PublishError, InvalidMessageError), match="INVALID_ARGUMENT"):
            await publisher.publish({"number": "many"})
        assert await publisher.publish({"number": 3})


async def declare(bench, name, model, **options):
    broker = bench.broker(**options)
    broker.publisher(name, topic_schema=TopicSchema(model, f"{name}-schema"))
    async with broker:
        await broker.setup()


async def test_changed_model_is_an_error_unless_it_may_be_committed(bench, name):
    await declare(bench, name, Order)
    with pytest.raises(TopologyError, match=f"{name}-schema has no revision.*Order.*autoupd"):
        await declare(bench, name, LaterOrder)
    await declare(bench, name, LaterOrder, autoupdate=True)
    # a process of the release before goes on
    await declare(bench, name, Order)


async def test_topic_without_the_schema_is_an_error_unless_it_may_be_changed(bench, name):
    plain = bench.broker()
    plain.subscriber(name)
    async with plain:
        await plain.setup()
    with pytest.raises(TopologyError, match=f"{name} validates its messages by no schema"):
        await declare(bench, name, Order)
    await declare(bench, name, Order, autoupdate=True)
    await declare(bench, name, Order)


async def test_absent_schema_without_autocreate_is_an_error(bench, name):
    with pytest.raises(TopologyError, match=f"can't read .*{name}-schema"):
        await declare(bench, name, Order, autocreate=False)


async def test_topic_with_two_schemas_is_an_error(own_server, name):
    broker = own_server.broker()
    broker.publisher(name, topic_schema=Order)
    broker.subscriber(name, topic_schema=LaterOrder)
    async with broker:
        with pytest.raises(SetupError, match="two schemas, Order and Order"):
            await broker.setup()
