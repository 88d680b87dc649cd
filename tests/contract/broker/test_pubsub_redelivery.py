"""Messages that come again while this client still holds them."""

import asyncio

import pytest

from faststream_pubsub import PubSubBroker


def held_ack_ids(subscriber):
    return {delivery.ack_id for delivery in subscriber.reading._held.leases._held.values()}


@pytest.mark.parametrize("ordering", [False, True])
async def test_message_that_comes_again_while_it_waits_is_handled_once(
    durable_server, name, make_inbox, until, ordering
):
    broker = PubSubBroker(emulator_host=durable_server.target, logger=None)
    began, ended = make_inbox(), make_inbox()
    may_go_on = asyncio.Event()
    key = "k" if ordering else ""

    @broker.subscriber(name, enable_message_ordering=ordering)
    async def read(number: int) -> None:
        await began.put(number)
        await may_go_on.wait()
        await ended.put(number)

    (subscriber,) = broker.subscribers
    async with broker:
        await broker.start()
        await broker.publish_batch(*range(20), topic=name, ordering_key=key)
        await began.wait_for(1)
        await until(lambda: len(held_ack_ids(subscriber)) == 20)
        before = held_ack_ids(subscriber)
        # a server that was killed has forgotten all leases, and delivers everything again
        await asyncio.to_thread(durable_server.kill)
        await asyncio.to_thread(durable_server.start)
        await until(lambda: len(held_ack_ids(subscriber) - before) == 20, seconds=20)
        may_go_on.set()
        await ended.wait_for(20)
        # the acks of the new copies are those that count
        await broker.stop()
        successor = PubSubBroker(emulator_host=durable_server.target, logger=None)
        again = successor.subscriber(name, enable_message_ordering=ordering)
        async with successor:
            await successor.start()
            await successor.publish("end", topic=name)
            last = await again.get_one()
            await last.ack()
    assert last.body == b"end"
    assert sorted(ended.seen) == list(range(20))
    if ordering:
        assert ended.seen == list(range(20))


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_message_whose_lease_ends_while_it_waits_is_left_for_its_next_delivery(
    bench, name, make_inbox, until
):
    broker = bench.broker()
    began, ended = make_inbox(), make_inbox()
    may_go_on = asyncio.Event()

    @broker.subscriber(name, enable_message_ordering=True)
    async def read(number: int) -> None:
        await began.put(number)
        await may_go_on.wait()
        await ended.put(number)

    (subscriber,) = broker.subscribers
    async with bench.running(broker):
        await broker.publish_batch(*range(3), topic=name, ordering_key="k")
        await broker.publish_batch(*range(10, 13), topic=name, ordering_key="l")
        await began.wait_for(1)
        await until(lambda: len(held_ack_ids(subscriber)) == 6)
        reading = subscriber.reading
        waiting = [d for d in reading._held.leases._held.values() if d.message.ordering_key == "l"]
        reading._held._lose(waiting[:1], why="the test says so")
        reading._held._acknowledger.set_deadline(waiting[:1], 0)
        may_go_on.set()
        seen = await ended.wait_for(6)
    assert [n for n in seen if n < 10] == [0, 1, 2]
    assert [n for n in seen if n >= 10] == [10, 11, 12]
