"""What only the broker in memory does."""

import asyncio

import pytest
from faststream import AckPolicy
from faststream.exceptions import SetupError

from faststream_pubsub import PubSubBroker, PubSubError, TestPubSubBroker
from faststream_pubsub.annotations import PubSubMessage
from faststream_pubsub.filters import compile_filter


async def test_error_of_a_handler_reaches_its_publisher():
    broker = PubSubBroker(logger=None)
    tries = []

    @broker.subscriber("orders")
    async def fail(text: str) -> None:
        tries.append(text)
        raise ValueError(text)

    async with TestPubSubBroker(broker):
        with pytest.raises(ValueError, match="boom"):
            await broker.publish("boom", "orders")
    assert tries == ["boom"]


async def test_message_that_is_nacked_for_ever_is_an_error():
    broker = PubSubBroker(logger=None)

    @broker.subscriber("orders", ack_policy=AckPolicy.MANUAL)
    async def never(message: PubSubMessage) -> None:
        await message.nack()

    async with TestPubSubBroker(broker):
        with pytest.raises(PubSubError, match="dead_letter_topic"):
            await broker.publish("again", "orders")


async def test_key_is_handled_in_order_whoever_publishes():
    broker = PubSubBroker(logger=None)
    seen: list[int] = []

    @broker.subscriber("orders", enable_message_ordering=True)
    async def read(number: int) -> None:
        if number == 0:
            await broker.publish(3, "orders", ordering_key="k")
            await asyncio.sleep(0)
        seen.append(number)

    async with TestPubSubBroker(broker):
        publish = [broker.publish(n, "orders", ordering_key="k") for n in range(3)]
        await asyncio.wait_for(asyncio.gather(*publish), timeout=5)
    assert seen == [0, 3, 1, 2]


async def test_nacked_message_of_get_one_waits_again():
    broker = PubSubBroker(logger=None)
    subscriber = broker.subscriber("orders", dead_letter_topic="dead")
    async with TestPubSubBroker(broker):
        await subscriber.start()
        await subscriber.get_one(timeout=0)
        await broker.publish("x", "orders")
        first = await subscriber.get_one(timeout=1)
        await first.nack()
        second = await subscriber.get_one(timeout=1)
    assert (first.delivery_attempt, second.delivery_attempt) == (1, 2)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("attributes:a", True),
        ("attributes:b", False),
        ('attributes.a = "1"', True),
        ('attributes.a != "1"', False),
        ('attributes.b != "1"', False),
        ('hasPrefix(attributes.long-key, "ab")', True),
        ('hasPrefix(attributes.b, "")', False),
        ("NOT attributes:b", True),
        ("-attributes:a", False),
        ('attributes:a AND attributes."with space":x', None),
        ('attributes:b OR (attributes:a AND attributes."with space" = "\\"q\\"")', True),
        ("NOT (attributes:a OR attributes:b)", False),
        ("attributes:a AND attributes:b OR attributes:a", None),
        ("attributes:a attributes:b", None),
        ("attributes.a = 1", None),
        ("attributes.a = '1'", None),
        ('attributes.a = "\\q"', None),
        ("attributes:AND", None),
        ("(attributes:a", None),
        ("data:a", None),
        ("x" * 257, None),
    ],
)
def test_filter_language(text, matches):
    attributes = {"a": "1", "long-key": "abc", "with space": '"q"'}
    if matches is None:
        with pytest.raises(SetupError, match="filter"):
            compile_filter(text)
    else:
        assert compile_filter(text)(attributes) is matches


def test_wrong_filter_is_an_error_at_declaration():
    with pytest.raises(SetupError, match="character 16"):
        PubSubBroker().subscriber("orders", filter="attributes.a = b")
