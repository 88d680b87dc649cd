import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faststream_pubsub.deliveries import Delivery, DeliveryQueue, LeaseTable
from faststream_pubsub.wire import PubsubMessage


def delivery(ack_id, *, key="", data=b"x"):
    message = PubsubMessage(data=data, ordering_key=key, message_id=str(ack_id))
    return Delivery(
        message,
        ack_id=str(ack_id),
        attempt=0,
        subscription="projects/p/subscriptions/s",
        settler=None,
    )


def test_lease_is_due_about_half_way_and_then_anew():
    leases = LeaseTable(lease_seconds=10, longest_seconds=100)
    held = delivery(1)
    leases.begin([held], now=0)
    assert leases.take_due(now=3.9) == (0, [])
    assert leases.take_due(now=6.1) == (10, [held])
    assert leases.take_due(now=6.2) == (0, [])
    assert leases.take_due(now=12.2) == (10, [held])


def test_settled_delivery_is_extended_no_more():
    leases = LeaseTable(lease_seconds=10, longest_seconds=100)
    held = delivery(1)
    leases.begin([held], now=0)
    leases.end(held)
    leases.end(held)
    assert leases.take_due(now=50) == (0, [])
    assert len(leases) == leases.held_bytes == 0


def test_lease_ends_at_its_longest():
    leases = LeaseTable(lease_seconds=10, longest_seconds=100)
    held = delivery(1)
    leases.begin([held], now=0)
    assert leases.take_expired(now=99) == []
    assert leases.take_expired(now=100) == [held]
    assert held not in leases


@pytest.mark.parametrize(("handling_seconds", "lease"), [(1, 10), (200, 200), (5_000, 600)])
def test_lease_follows_measured_handling_within_the_service_limits(handling_seconds, lease):
    leases = LeaseTable(lease_seconds=10, longest_seconds=9_000)
    for _ in range(50):
        leases.learn(handling_seconds)
    assert leases.lease_seconds == lease


async def test_next_of_a_key_waits_for_the_one_before():
    queue = DeliveryQueue(ordered=True)
    a1, a2, b1, free = (
        delivery(1, key="a"),
        delivery(2, key="a"),
        delivery(3, key="b"),
        delivery(4),
    )
    queue.put([a1, a2, b1, free])
    assert [await queue.get() for _ in range(3)] == [a1, b1, free]
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert queue.done(a1) == []
    assert await waiting is a2


async def test_keys_mean_nothing_without_ordering():
    queue = DeliveryQueue(ordered=False)
    sent = [delivery(i, key="a") for i in range(3)]
    queue.put(sent)
    assert [await queue.get() for _ in range(3)] == sent
    assert queue.done(sent[0]) == []


async def test_nack_releases_what_is_behind_it():
    queue = DeliveryQueue(ordered=True)
    a1, a2, a3 = (delivery(i, key="a") for i in range(3))
    queue.put([a1, a2, a3])
    assert await queue.get() is a1
    a1.nacked = True
    assert queue.done(a1) == [a2, a3]
    again = delivery(9, key="a")
    queue.put([again])
    assert await queue.get() is again


async def test_cancelled_waiter_passes_its_turn_on():
    queue = DeliveryQueue(ordered=True)
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    only = delivery(1)
    queue.put([only])
    first.cancel()
    assert await asyncio.wait_for(second, 1) is only


@given(keys=st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=40), workers=st.integers(1, 6))
def test_every_delivery_comes_once_and_keys_never_overlap(keys, workers):
    async def run():
        queue = DeliveryQueue(ordered=True)
        sent = [delivery(i, key=key) for i, key in enumerate(keys)]
        queue.put(sent)
        seen, running = [], set()

        async def work():
            while True:
                got = await queue.get()
                key = got.message.ordering_key
                assert not key or key not in running
                running.add(key)
                await asyncio.sleep(0)
                running.discard(key)
                seen.append(got)
                queue.done(got)

        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        while len(seen) < len(sent):
            await asyncio.sleep(0)
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for key in "abc":
            assert [d for d in seen if d.message.ordering_key == key] == [
                d for d in sent if d.message.ordering_key == key
            ]
        assert sorted(seen, key=id) == sorted(sent, key=id)

    asyncio.run(run())


async def test_what_a_batch_has_gathered_can_be_taken_out():
    queue = DeliveryQueue(ordered=False)
    first = delivery(1)
    queue.put([first])
    gathering = asyncio.create_task(queue.get_batch(max_size=2, wait_seconds=0.05))
    await asyncio.sleep(0)
    assert queue.take_all() == [first]
    assert await gathering == []


async def test_batch_ends_after_its_wait():
    queue = DeliveryQueue(ordered=False)
    deliveries = [delivery(n) for n in range(3)]
    queue.put(deliveries)
    assert await queue.get_batch(max_size=2, wait_seconds=60) == deliveries[:2]
    assert await queue.get_batch(max_size=2, wait_seconds=0) == deliveries[2:]


def test_message_that_comes_again_is_held_once_under_its_new_ack_id():
    leases = LeaseTable(lease_seconds=10, longest_seconds=100)
    first, again = delivery(1), delivery(1)
    again.ack_id, again.attempt = "1-again", 2
    assert leases.begin([first], now=0) == [first]
    assert leases.begin([again], now=5) == []
    assert (first.ack_id, first.attempt) == ("1-again", 2)
    assert first in leases
    assert again not in leases
    assert leases.take_due(now=8.9) == (0, [])
    assert leases.take_expired(now=100) == [first]
    assert len(leases) == leases.held_bytes == 0


def test_message_that_comes_again_during_its_ack_is_another_delivery():
    leases = LeaseTable(lease_seconds=10, longest_seconds=100)
    first, again = delivery(1), delivery(1)
    leases.begin([first], now=0)
    first.settling, first.ack_id = True, "old"
    assert leases.begin([again], now=5) == [again]
    leases.end(first)
    assert first.ack_id == "old"
    assert again in leases
    assert leases.held_bytes == 1


def test_lease_is_never_below_the_least():
    leases = LeaseTable(lease_seconds=10, longest_seconds=100)
    leases.at_least(60)
    leases.at_least(20)
    assert leases.lease_seconds == 60
