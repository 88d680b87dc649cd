"""What holds when the server fails, or a handler is slow."""

import asyncio

import pytest

from faststream_pubsub import PubSubBroker
from faststream_pubsub.annotations import PubSubMessage as Message


async def test_broker_goes_on_after_the_server_was_killed(make_google_emulator, name, inbox):
    emulator = make_google_emulator()
    emulator.start()
    try:
        broker = PubSubBroker(emulator_host=emulator.target, logger=None)

        @broker.subscriber(name)
        async def read(text: str) -> None:
            await inbox.put(text)

        async with broker:
            await broker.start()
            await broker.publish("before", topic=name)
            await inbox.wait_for(1)
            await asyncio.to_thread(emulator.kill)
            # the emulator keeps nothing, so topic and subscription are made anew
            await asyncio.to_thread(emulator.start)
            async with asyncio.timeout(30):
                while "after" not in inbox.seen:
                    await broker.publish("after", topic=name)
                    await asyncio.sleep(0.1)
    finally:
        emulator.kill()
    assert inbox.seen[0] == "before"


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_slow_handler_keeps_its_message(bench, name, inbox):
    broker = bench.broker()

    @broker.subscriber(name, ack_deadline_seconds=10, max_workers=4)
    async def slow(message: Message) -> None:
        await inbox.put(f"began {message.message_id}")
        await asyncio.sleep(11.5)
        await inbox.put(f"ended {message.message_id}")

    async with bench.running(broker):
        message_id = await broker.publish("long work", topic=name)
        seen = await inbox.wait_for(2, seconds=20)
    assert seen == [f"began {message_id}", f"ended {message_id}"]
