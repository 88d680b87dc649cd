"""Subscribers side by side, at run time, in routers, and within their limits."""

import asyncio

import pytest

from faststream_pubsub import PubSubRouter


def read_into(inbox, broker, who, name):
    @broker.subscriber(name, subscription=f"{name}.shared", max_messages=10)
    async def read(text: str) -> None:
        await asyncio.sleep(0.01)
        await inbox.put((text, who))


async def test_subscribers_share_a_subscription(bench, name, inbox):
    broker, other = bench.broker(), bench.broker()
    for who, one in enumerate((broker, broker, other, other)):
        read_into(inbox, one, who, name)

    async with bench.running(broker), bench.running(other):
        await broker.publish_batch(*map(str, range(200)), topic=name)
        seen = await inbox.wait_for(200)
    assert sorted(int(text) for text, _ in seen) == list(range(200))
    assert len({who for _, who in seen}) > 1


async def test_each_subscription_gets_every_message(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(name, subscription=f"{name}.one")
    @broker.subscriber(name, subscription=f"{name}.two")
    async def read(text: str) -> None:
        await inbox.put(text)

    async with any_bench.running(broker):
        await broker.publish("x", topic=name)
        assert await inbox.wait_for(2) == ["x", "x"]


async def test_subscriber_starts_and_stops_at_run_time(bench, name, inbox):
    broker = bench.broker()
    async with bench.running(broker):
        for turn, expected in enumerate((["turn 0"], ["after 0", "turn 0", "turn 1"])):
            subscriber = broker.subscriber(name, persistent=False)

            @subscriber
            async def read(text: str) -> None:
                await inbox.put(text)

            await subscriber.start()
            await broker.publish(f"turn {turn}", topic=name)
            assert sorted(await inbox.wait_for(len(expected))) == expected
            await subscriber.stop()
            # it waits for the next turn
            await broker.publish(f"after {turn}", topic=name)
    assert len(inbox.seen) == 3


async def test_prefixes_of_nested_routers_add_up(any_bench, name, inbox):
    inner = PubSubRouter("inner-")
    outer = PubSubRouter("outer-", routers=[inner])

    @inner.publisher(f"{name}-out")
    @inner.subscriber(name)
    async def forward(text: str) -> str:
        return text

    broker = any_bench.broker()
    broker.include_router(outer, prefix="all-")

    @broker.subscriber(f"all-outer-inner-{name}-out")
    async def read(text: str) -> None:
        await inbox.put(text)

    async with any_bench.running(broker):
        await broker.publish("x", topic=f"all-outer-inner-{name}")
        assert await inbox.wait_for(1) == ["x"]


@pytest.mark.parametrize(
    ("limits", "most"), [({"max_messages": 10}, 10), ({"max_bytes": 10_000}, 11)]
)
async def test_no_more_is_leased_than_asked_for(own_server, name, inbox, until, limits, most):
    """Google's emulator knows no such limits."""
    may_end = asyncio.Event()
    broker = own_server.broker()

    @broker.subscriber(name, max_workers=2, **limits)
    async def slow(text: str) -> None:
        await may_end.wait()
        await inbox.put(text)

    def held() -> int:
        return broker.health().subscriptions[0].held_messages

    async with own_server.running(broker):
        # an answer of the server may hold more than a limit in bytes: so each comes by itself
        for _ in range(50):
            await broker.publish("x" * 1_000, topic=name)
        await until(lambda: held() >= 9)
        await asyncio.sleep(0.2)
        assert held() <= most
        may_end.set()
        assert len(await inbox.wait_for(50)) == 50
