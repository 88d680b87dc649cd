"""Handlers that take messages in batches."""

import asyncio

from faststream import AckPolicy
from pydantic import BaseModel

from faststream_pubsub import PubSubResponse
from faststream_pubsub.annotations import PubSubBatchMessage, PubSubMessage


class Shard(BaseModel):
    index: int


async def test_handler_takes_what_came_together(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(name, batch=True, max_batch_size=50, max_batch_wait_seconds=2)
    async def read(shards: list[Shard], message: PubSubBatchMessage) -> None:
        assert [m.body for m in message.messages] == message.body
        await inbox.put([shard.index for shard in shards])

    async with any_bench.running(broker):
        await broker.publish_batch(*(Shard(index=i) for i in range(50)), topic=name)
        [batch] = await inbox.wait_for(1)
    assert sorted(batch) == list(range(50))


async def test_batch_is_never_bigger_than_asked_for(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(name, batch=True, max_batch_size=4, max_batch_wait_seconds=0.2)
    async def read(numbers: list[int]) -> None:
        for number in numbers:
            await inbox.put((number, len(numbers)))

    async with any_bench.running(broker):
        await broker.publish_batch(*range(10), topic=name)
        seen = await inbox.wait_for(10)
    assert sorted(number for number, _ in seen) == list(range(10))
    assert max(size for _, size in seen) <= 4


async def test_part_of_a_batch_comes_again(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(name, batch=True, max_batch_size=3, max_batch_wait_seconds=0.5)
    async def read(numbers: list[int], message: PubSubBatchMessage) -> None:
        await inbox.put(sorted(numbers))
        if len(numbers) == 3:
            await message.messages[numbers.index(1)].nack()

    async with any_bench.running(broker):
        await broker.publish_batch(0, 1, 2, topic=name)
        assert await inbox.wait_for(2) == [[0, 1, 2], [1]]
        await broker.publish(3, topic=name)
        assert await inbox.wait_for(3) == [[0, 1, 2], [1], [3]]


async def test_failed_batch_comes_again_in_the_order_of_its_key(own_bench, name, inbox):
    broker = own_bench.broker()
    failed = asyncio.Event()

    @broker.subscriber(
        name, batch=True, max_batch_size=7, max_batch_wait_seconds=0, enable_message_ordering=True
    )
    async def read(numbers: list[int]) -> None:
        if 5 in numbers and not failed.is_set():
            failed.set()
            raise RuntimeError(numbers)
        for number in numbers:
            await inbox.put(number)

    async with own_bench.running(broker):
        await broker.publish_batch(*range(40), topic=name, ordering_key="k")
        assert await inbox.wait_for(40) == list(range(40))
    assert failed.is_set()


async def test_rejected_batch_becomes_dead_letters(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(
        name, batch=True, ack_policy=AckPolicy.MANUAL, dead_letter_topic=f"{name}.dead"
    )
    async def refuse(_: list[int], message: PubSubBatchMessage) -> None:
        await message.reject(reason="no room")

    @broker.subscriber(f"{name}.dead", batch=True, max_batch_wait_seconds=0)
    async def read(_: list[int], message: PubSubBatchMessage) -> None:
        for letter in message.messages:
            await inbox.put((letter.body, letter.attributes["dead-letter-reason"]))

    async with any_bench.running(broker):
        await broker.publish_batch(1, 2, topic=name)
        assert sorted(await inbox.wait_for(2)) == [(b"1", "no room"), (b"2", "no room")]


async def test_exactly_once_batch_is_confirmed(bench, name, inbox):
    broker = bench.broker()

    @broker.subscriber(
        name, batch=True, ack_policy=AckPolicy.MANUAL, enable_exactly_once_delivery=True
    )
    async def read(numbers: list[int], message: PubSubBatchMessage) -> None:
        await message.ack()
        for _ in numbers:
            await inbox.put(message.committed)

    async with bench.running(broker):
        await broker.publish_batch(*range(20), topic=name)
        assert await inbox.wait_for(20) == ["ACKED"] * 20


async def test_filter_lets_through_what_matches(own_bench, name, inbox):
    broker = own_bench.broker()

    @broker.subscriber(name, filter='attributes.shop = "north" AND NOT attributes:test')
    async def read(text: str) -> None:
        await inbox.put(text)

    async with own_bench.running(broker):
        await broker.publish("south", topic=name, attributes={"shop": "south"})
        await broker.publish("test", topic=name, attributes={"shop": "north", "test": "1"})
        await broker.publish("north", topic=name, attributes={"shop": "north"})
        assert await inbox.wait_for(1) == ["north"]


async def test_message_that_fails_too_often_becomes_a_dead_letter(any_bench, name, make_inbox):
    tries, letters = make_inbox(), make_inbox()
    broker = any_bench.broker()

    @broker.subscriber(name, dead_letter_topic=f"{name}.dead", max_delivery_attempts=5)
    async def fail(text: str) -> None:
        await tries.put(text)
        raise RuntimeError(text)

    @broker.subscriber(f"{name}.dead", subscription=f"{name}.dead")
    async def read(text: str) -> None:
        await letters.put(text)

    async with any_bench.running(broker):
        await broker.publish("poison", topic=name)
        assert await letters.wait_for(1) == ["poison"]
    assert tries.seen == ["poison"] * 5


async def test_each_element_of_a_result_is_a_message(any_bench, name, inbox):
    broker = any_bench.broker()
    publisher = broker.publisher(
        f"{name}-parts", batch=True, skip_none=True, attributes={"kind": "part"}
    )

    @publisher
    @broker.subscriber(name)
    async def split(numbers: list[int]) -> object:
        if 7 in numbers:
            return PubSubResponse(numbers, attributes={"kind": "seven"})
        return numbers

    @broker.subscriber(f"{name}-parts")
    async def read(number: int, message: PubSubMessage) -> None:
        await inbox.put((number, message.attributes["kind"]))

    async with any_bench.running(broker):
        for numbers in ([], [1, 2, 3], [7, 8]):
            await broker.publish(numbers, topic=name)
        ids = await publisher.publish_batch(10, 11)
        seen = await inbox.wait_for(7)
    assert len(set(ids)) == 2
    assert sorted(seen) == [
        *((number, "part") for number in (1, 2, 3)),
        *((number, "seven") for number in (7, 8)),
        *((number, "part") for number in (10, 11)),
    ]


async def test_elements_of_a_batch_have_attributes_and_keys_of_their_own(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.publisher(name, batch=True, attributes={"shop": "north"})
    @broker.subscriber(f"{name}-first")
    async def split(numbers: list[int]) -> object:
        return [
            PubSubResponse(numbers[0], ordering_key="k", correlation_id="own"),
            PubSubResponse(numbers[1], attributes={"shop": "south"}),
            numbers[2],
        ]

    @broker.subscriber(name)
    async def read(number: int, message: PubSubMessage) -> None:
        found = (message.ordering_key, message.attributes["shop"], message.correlation_id == "own")
        await inbox.put((number, *found))

    async with any_bench.running(broker):
        await broker.publish([1, 2, 3], topic=f"{name}-first")
        await broker.publish_batch(
            PubSubResponse(4, ordering_key="m", attributes={"shop": "east"}),
            5,
            topic=name,
            attributes={"shop": "west"},
            ordering_key="n",
        )
        seen = await inbox.wait_for(5)
    assert sorted(seen) == [
        (1, "k", "north", True),
        (2, "", "south", False),
        (3, "", "north", False),
        (4, "m", "east", False),
        (5, "n", "west", False),
    ]
