"""How messages go out: with limits, compressed, and on after a failure."""

import asyncio
from dataclasses import replace

import grpc
import pytest

from faststream_pubsub import (
    FlowControlError,
    InvalidMessageError,
    PublishBatching,
    PublishError,
    PublishFlow,
)
from faststream_pubsub.annotations import PubSubMessage as Message
from faststream_pubsub.wire import PublishRequest


def wrap_publish(broker, wrapper):
    client = broker._connection.client
    client.rpcs = replace(client.rpcs, publish=wrapper(client.rpcs.publish))


async def test_compressed_messages_are_small_on_the_wire_and_whole_at_the_end(
    bench, target, make_proxy, name, inbox
):
    async with make_proxy(target) as proxy:
        broker = bench.broker(emulator_host=proxy.address, publish_compression_bytes=1_000)

        @broker.subscriber(name)
        async def read(text: str) -> None:
            await inbox.put(text)

        async with bench.running(broker):
            await broker.publish("x" * 500_000, topic=name)
            assert await inbox.wait_for(1) == ["x" * 500_000]
    assert proxy.sent_bytes < 100_000


async def test_publishers_wait_for_room(bench, name):
    broker = bench.broker(publish_flow=PublishFlow(max_messages=10))
    at_once: list[int] = []

    def counted(publish):
        async def call(request, **options):
            at_once.append(len(PublishRequest.FromString(request).messages))
            return await publish(request, **options)

        return call

    async with bench.running(broker):
        await broker.publish("makes the topic", topic=name)
        wrap_publish(broker, counted)
        ids = await asyncio.gather(*(broker.publish(n, topic=name) for n in range(55)))
        ids += await broker.publish_batch(*range(25), topic=name)
    assert len(set(ids)) == 80
    assert sum(at_once) == 80
    assert max(at_once) == 10


async def test_messages_wait_for_others_of_their_request(bench, name):
    broker = bench.broker(publish_batching=PublishBatching(max_messages=5, max_latency_seconds=60))
    at_once: list[int] = []

    def counted(publish):
        async def call(request, **options):
            at_once.append(len(PublishRequest.FromString(request).messages))
            return await publish(request, **options)

        return call

    async with bench.running(broker):
        await asyncio.gather(*(broker.publish("makes the topic", topic=name) for _ in range(5)))
        wrap_publish(broker, counted)
        waiting = [asyncio.create_task(broker.publish(n, topic=name)) for n in range(7)]
        for task in waiting[:5]:
            await task
        assert at_once == [5]
    assert [await task for task in waiting[5:]]
    assert at_once == [5, 2]


async def test_full_publisher_raises_when_asked_to(bench, name):
    broker = bench.broker(publish_flow=PublishFlow(max_messages=3, when_full="raise"))
    async with bench.running(broker):
        results = await asyncio.gather(
            *(broker.publish(n, topic=name) for n in range(5)), return_exceptions=True
        )
        await broker.publish("there is room again", topic=name)
    assert [isinstance(r, FlowControlError) for r in results] == [False] * 3 + [True] * 2


async def test_failed_ordering_key_goes_on_and_keeps_its_order(bench, name, inbox):
    broker = bench.broker()
    begun, may_fail = asyncio.Event(), asyncio.Event()

    def failing_once(publish):
        async def call(request, **options):
            first = PublishRequest.FromString(request).messages[0]
            if first.data == b"1" and not begun.is_set():
                begun.set()
                await may_fail.wait()
                raise grpc.aio.AioRpcError(
                    grpc.StatusCode.PERMISSION_DENIED, grpc.aio.Metadata(), grpc.aio.Metadata()
                )
            return await publish(request, **options)

        return call

    @broker.subscriber(name, enable_message_ordering=True)
    async def read(number: int, message: Message) -> None:
        await inbox.put((message.ordering_key, number))

    async with bench.running(broker):
        await broker.publish(0, topic=name, ordering_key="k")
        wrap_publish(broker, failing_once)
        first = asyncio.create_task(broker.publish(1, topic=name, ordering_key="k"))
        await begun.wait()
        behind = [
            asyncio.create_task(broker.publish(n, topic=name, ordering_key="k")) for n in (2, 3)
        ]
        # its request is answered while those of the key wait
        await broker.publish(9, topic=name, ordering_key="other")
        may_fail.set()
        failed = await asyncio.gather(first, *behind, return_exceptions=True)
        for number in range(1, 4):
            await broker.publish(number, topic=name, ordering_key="k")
        seen = await inbox.wait_for(5)
    assert [isinstance(f, PublishError) for f in failed] == [True] * 3
    assert [n for key, n in seen if key == "k"] == [0, 1, 2, 3]


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_none_of_a_batch_is_sent_if_one_message_is_too_big(bench, name, inbox):
    broker = bench.broker()

    @broker.subscriber(name)
    async def read(text: str) -> None:
        await inbox.put(text)

    async with bench.running(broker):
        with pytest.raises(InvalidMessageError, match="bytes does not fit"):
            await broker.publish_batch("small", "x" * 10_000_001, topic=name)
        await broker.publish("end", name)
        assert await inbox.wait_for(1) == ["end"]


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_nobody_waits_for_ever_for_a_call_that_broke(bench, name):
    def broken(_publish):
        async def call(_request, **_options):
            raise TypeError("not this")

        return call

    broker = bench.broker()
    async with bench.running(broker):
        wrap_publish(broker, broken)
        async with asyncio.timeout(10):
            with pytest.raises(PublishError, match="not this"):
                await broker.publish("x", topic=name)
