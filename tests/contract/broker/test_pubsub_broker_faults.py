"""What holds when the server fails, or a handler is slow."""

import asyncio
import math
import os
from collections import Counter
from dataclasses import replace

import pytest

from faststream_pubsub import PubSubBroker
from faststream_pubsub.annotations import PubSubMessage as Message

MESSAGES = 10_000


async def test_broker_goes_on_after_the_server_was_killed(forgetful_server, name, inbox):
    broker = PubSubBroker(emulator_host=forgetful_server.target, logger=None)

    @broker.subscriber(name)
    async def read(text: str) -> None:
        await inbox.put(text)

    async with broker:
        await broker.start()
        await broker.publish("before", topic=name)
        await inbox.wait_for(1)
        await asyncio.to_thread(forgetful_server.kill)
        # it keeps nothing, so topic and subscription are made anew
        await asyncio.to_thread(forgetful_server.start)
        async with asyncio.timeout(30):
            while "after" not in inbox.seen:
                await broker.publish("after", topic=name)
                await asyncio.sleep(0.1)
    assert inbox.seen[0] == "before"


async def test_nothing_is_lost_when_the_server_is_killed_under_load(durable_server, name):
    """Kill it twice while messages flow: all are handled, none again that was acked by then.

    What was not yet acknowledged at a kill is in the client's hands twice after it.
    """
    broker = PubSubBroker(emulator_host=durable_server.target, logger=None)
    handled: Counter[int] = Counter()
    message_ids: dict[str, str] = {}
    answered: set[str] = set()
    acked_at_kill: dict[str, float] = {}
    again_after_ack: list[str] = []
    progress = asyncio.Condition()

    @broker.subscriber(name, max_workers=20)
    async def read(number: int, message: Message) -> None:
        if message.raw_message.delivered_at > acked_at_kill.get(message.message_id, math.inf):
            again_after_ack.append(message.message_id)
        message_ids[message.raw_message.ack_id] = message.message_id
        handled[number] += 1
        async with progress:
            progress.notify_all()

    async def until(count: int) -> None:
        async with asyncio.timeout(60), progress:
            await progress.wait_for(lambda: len(handled) >= count)

    async with broker:
        await broker.start()
        note_answers(broker, message_ids, answered)
        publishing = asyncio.create_task(publish_numbers(broker, name, MESSAGES))
        for part in (0.2, 0.6):
            await until(int(part * MESSAGES))
            acked = set(answered)
            await asyncio.to_thread(durable_server.kill)
            acked_at_kill |= dict.fromkeys(acked, asyncio.get_running_loop().time())
            await asyncio.to_thread(durable_server.start)
        await publishing
        await until(MESSAGES)
    assert sorted(handled) == list(range(MESSAGES))
    assert acked_at_kill
    assert not again_after_ack
    assert max(handled.values()) <= 3


async def publish_numbers(broker, topic, count):
    for start in range(0, count, 100):
        await broker.publish_batch(*range(start, start + 100), topic=topic)


def note_answers(broker, message_ids, answered):
    """Note the messages whose acknowledgement the server has answered."""
    client = broker._connection.client
    acknowledge = client.rpcs.acknowledge

    async def noting(request, **options):
        response = await acknowledge(request, **options)
        # a handler that ran across the kill acknowledges by an ID that came later
        answered.update(message_ids[i] for i in request.ack_ids if i in message_ids)
        return response

    client.rpcs = replace(client.rpcs, acknowledge=noting)


@pytest.mark.parametrize(
    "target",
    ["embedded", *(["google"] if "PUBSUB_LONG_TESTS" in os.environ else [])],
    indirect=True,
)
async def test_slow_handler_keeps_its_message(bench, name, inbox):
    """The shortest deadline is 10 s, so ten times the deadline runs only when it is asked for."""
    seconds = 100 if os.environ.get("PUBSUB_LONG_TESTS") else 11.5
    broker = bench.broker()

    @broker.subscriber(name, ack_deadline_seconds=10, max_workers=4)
    async def slow(message: Message) -> None:
        await inbox.put(f"began {message.message_id}")
        await asyncio.sleep(seconds)
        await inbox.put(f"ended {message.message_id}")

    async with bench.running(broker):
        message_id = await broker.publish("long work", topic=name)
        seen = await inbox.wait_for(2, seconds=seconds + 10)
    assert seen == [f"began {message_id}", f"ended {message_id}"]
