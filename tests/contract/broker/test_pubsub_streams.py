"""Streams that die without a word, and what probes see."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_dead_connection_is_noticed_and_left(bench, target, make_proxy, name, inbox):
    async with make_proxy(target) as proxy:
        broker = bench.broker(emulator_host=proxy.address)

        @broker.subscriber(name, max_silence_seconds=1)
        async def read(text: str) -> None:
            await inbox.put(text)

        async with bench.running(broker):
            await broker.publish("before", topic=name)
            await inbox.wait_for(1)
            proxy.cut_silently()
            publisher = bench.broker(emulator_host=target)
            async with publisher:
                await publisher.publish("after", topic=name)
            assert await inbox.wait_for(2, seconds=25) == ["before", "after"]
            assert await broker.ping()


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_idle_stream_is_renewed_without_harm(bench, name, inbox):
    broker = bench.broker()

    @broker.subscriber(name, max_silence_seconds=1)
    async def read(text: str) -> None:
        await inbox.put(text)

    async with bench.running(broker):
        client = broker._connection.client
        pull, openings, opened_twice = client.rpcs.streaming_pull, [], asyncio.Event()

        def noted():
            openings.append(pull())
            if len(openings) == 2:
                opened_twice.set()
            return openings[-1]

        client.rpcs = replace(client.rpcs, streaming_pull=noted)
        await asyncio.wait_for(opened_twice.wait(), timeout=8)
        await broker.publish("still there", topic=name)
        assert await inbox.wait_for(1) == ["still there"]


async def test_health_tells_of_each_subscription(any_bench, name, inbox):
    broker = any_bench.broker()
    assert not broker.health().is_healthy

    @broker.subscriber(name, subscription=f"{name}.reader")
    async def read() -> None:
        await inbox.put(broker.health())

    async with any_bench.running(broker):
        await broker.publish("x", topic=name)
        [health] = await inbox.wait_for(1)
    assert health.is_healthy
    if not any_bench.in_memory:
        [one] = health.subscriptions
        assert one.subscription == f"{name}.reader"
        assert one.held_messages == 1
        assert one.down_seconds == 0
        assert not broker.health().is_healthy


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_a_handler_that_never_waits_leaves_others_their_turn(bench, name, until):
    broker = bench.broker()
    may_begin, handled, seen = asyncio.Event(), [], [0]

    @broker.subscriber(name)
    async def read(number: int) -> None:
        if number == 0:
            await may_begin.wait()
        handled.append(number)

    async def look() -> None:
        while len(handled) < 400:
            await asyncio.sleep(0)
            seen.append(len(handled))

    (subscriber,) = broker.subscribers
    async with bench.running(broker):
        await broker.publish_batch(*range(400), topic=name)
        await until(lambda: subscriber.reading.health("").held_messages == 400)
        may_begin.set()
        await look()
    # acks leave in these turns, too: without them the service would wait for the queue's end
    assert max(after - before for before, after in pairwise(seen)) <= 50
