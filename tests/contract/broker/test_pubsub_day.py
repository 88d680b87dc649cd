"""Long stretches of time by an injected clock: a day of failures, handlers that take for ever."""

import asyncio
import itertools
import random
from collections import Counter

import grpc
import pytest

from faststream_pubsub import PubSubBroker
from faststream_pubsub.annotations import PubSubMessage as Message
from faststream_pubsub.connection import Address, Connection
from tests.support.virtual_time import InProcessServer, SkippingLoop

DAY_SECONDS = 24 * 3_600
FAULTS = [
    (grpc.StatusCode.UNAVAILABLE, "The service was unable to fulfill your request."),
    (grpc.StatusCode.ABORTED, "The operation was aborted."),
    (grpc.StatusCode.UNAVAILABLE, "GOAWAY received; Error code: 0; Debug Text: session_timed_out"),
    (grpc.StatusCode.UNAUTHENTICATED, "Request had invalid authentication credentials."),
    (grpc.StatusCode.INTERNAL, "RST_STREAM closed stream. HTTP/2 error code: INTERNAL_ERROR"),
]


@pytest.fixture
def in_skipped_time(monkeypatch):
    """Runs a scenario with a server in the process, in a loop that skips waits."""

    def run(scenario):
        async def with_server():
            server = InProcessServer()

            async def connect(**_):
                address = Address(target="here", emulated=True)
                return Connection(
                    channel=server.channel(),
                    project="p",
                    address=address,
                    open_channel=server.channel,
                )

            monkeypatch.setattr("faststream_pubsub.broker.connect", connect)
            await scenario(server)

        with asyncio.Runner(loop_factory=SkippingLoop) as runner:
            runner.run(with_server())

    return run


@pytest.mark.parametrize("deadline_seconds", [10, 60])
def test_handler_ten_times_slower_than_the_deadline_keeps_its_message(
    in_skipped_time, deadline_seconds
):
    async def scenario(_server):
        broker = PubSubBroker(logger=None)
        began: Counter[int] = Counter()
        ended: list[int] = []

        @broker.subscriber("slow", ack_deadline_seconds=deadline_seconds, max_workers=10)
        async def slow(number: int) -> None:
            began[number] += 1
            await asyncio.sleep(10 * deadline_seconds)
            ended.append(number)

        async with broker:
            await broker.start()
            # the last wait for their worker for ten times the deadline, too
            await broker.publish_batch(*range(30), topic="slow")
            await asyncio.sleep(40 * deadline_seconds)
        assert sorted(ended) == list(range(30))
        assert set(began.values()) == {1}

    in_skipped_time(scenario)


def test_what_waits_at_stop_is_with_another_subscriber_within_a_second(in_skipped_time):
    async def scenario(_server):
        broker, other = PubSubBroker(logger=None, graceful_timeout=5), PubSubBroker(logger=None)
        stopped_at = 0.0
        taken_over: list[float] = []
        now = asyncio.get_running_loop().time

        @broker.subscriber("work")
        async def slow(_: int) -> None:
            await asyncio.sleep(4)

        @other.subscriber("work")
        async def read(_: int) -> None:
            taken_over.append(now() - stopped_at)

        async with broker, other:
            await broker.start()
            await broker.publish_batch(*range(1_000), topic="work")
            await asyncio.sleep(1)
            await other.start()
            await asyncio.sleep(1)
            assert not taken_over
            stopped_at = now()
            await broker.stop()
            await asyncio.sleep(60)
        # one was with a handler, which had the time to end it
        assert len(taken_over) == 999
        assert max(taken_over) <= 1

    in_skipped_time(scenario)


def test_a_day_of_broken_streams_loses_and_hangs_no_message(in_skipped_time):
    in_skipped_time(live_through_a_day)


async def live_through_a_day(server):
    broker = PubSubBroker(logger=None)
    now, chance = asyncio.get_running_loop().time, random.Random(7)
    published_at: dict[int, float] = {}
    delays: list[float] = []
    handled: Counter[str] = Counter()
    in_order: dict[str, list[int]] = {"a": [], "b": []}

    @broker.subscriber("free", max_workers=8)
    async def read(number: int, message: Message) -> None:
        await asyncio.sleep(chance.choice((0, 1, 25)))
        delays.append(now() - published_at[number])
        handled[message.message_id] += 1

    @broker.subscriber("ordered", max_workers=4, enable_message_ordering=True)
    async def read_in_order(number: int, message: Message) -> None:
        await asyncio.sleep(chance.choice((0, 1, 15)))
        delays.append(now() - published_at[number])
        handled[message.message_id] += 1
        in_order[message.ordering_key].append(number)

    async with broker:
        await broker.start()
        ends = now() + DAY_SECONDS
        faults = asyncio.create_task(break_things(server, ends))
        numbers = itertools.count()
        while now() < ends:
            for topic, key in (("free", ""), ("ordered", "a"), ("ordered", "b")):
                number = next(numbers)
                published_at[number] = now()
                await broker.publish(number, topic=topic, ordering_key=key)
            await asyncio.sleep(chance.uniform(20, 100))
            assert broker.health().is_healthy
        broken, silenced = await faults
        await asyncio.sleep(120)
        assert not [one for one in broker.health().subscriptions if one.held_messages]
    assert broken >= 2 * 70
    assert silenced == 8
    assert len(handled) == len(published_at) > 3_000
    # what was handled again is what could not be acknowledged while the server refused all
    assert sum(handled.values()) - len(published_at) < 20
    for numbers_seen in in_order.values():
        assert numbers_seen == sorted(numbers_seen)
    # a silent stream is noticed after at most 300 s, all else at once
    assert sum(delay > 60 for delay in delays) <= 8 * 3 * 16
    assert max(delays) < 300 + 60
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def break_things(server, ends):
    """End the streams every 20 minutes, refuse all for 10 s after it, and go silent at times."""
    loop = asyncio.get_running_loop()
    broken = silenced = 0
    for turn, (code, details) in enumerate(itertools.cycle(FAULTS)):
        await asyncio.sleep(1_200)
        if loop.time() > ends:
            return broken, silenced
        broken += server.end_streams(code, details)
        server.fault = grpc.StatusCode.UNAVAILABLE
        await asyncio.sleep(10)
        server.fault = None
        if turn % 9 == 0:
            silenced += 1
            await asyncio.sleep(30)
            server.silence_streams()
    raise AssertionError("a cycle never ends")
