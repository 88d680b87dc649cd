import asyncio

import pytest
from faststream.exceptions import SetupError

from faststream_pubsub import FlowControlError, PublishFlow
from faststream_pubsub.flow import FlowGate


def gate(**limits):
    return FlowGate(PublishFlow(**limits))


async def test_room_is_given_in_the_order_of_asking():
    flow = gate(max_messages=1)
    assert flow.enter(1)
    order: list[int] = []

    async def ask(number: int) -> None:
        if not flow.enter(1):
            await flow.wait(1)
        order.append(number)

    asking = [asyncio.create_task(ask(n)) for n in range(3)]
    for told in range(3):
        await asyncio.sleep(0)
        assert order == list(range(told))
        flow.leave(1, 1)
        await asyncio.wait_for(asking[told], timeout=5)
    flow.leave(1, 1)
    assert flow.enter(1)


async def test_who_gives_up_waiting_takes_no_room():
    flow = gate(max_messages=1)
    flow.enter(1)
    early, late = asyncio.create_task(flow.wait(1)), asyncio.create_task(flow.wait(1))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.gather(early, return_exceptions=True)
    flow.leave(1, 1)
    await asyncio.wait_for(late, timeout=5)
    flow.leave(1, 1)
    assert flow.enter(1)


async def test_who_is_cancelled_in_the_moment_of_its_turn_gives_the_room_back():
    flow = gate(max_messages=1)
    flow.enter(1)
    waiting = asyncio.create_task(flow.wait(1))
    await asyncio.sleep(0)
    flow.leave(1, 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert flow.enter(1)


def test_bytes_are_limited_but_a_big_message_goes_alone():
    flow = gate(max_bytes=10)
    assert flow.enter(50)
    assert not flow.enter(1)
    flow.leave(1, 50)
    assert flow.enter(6)
    assert not flow.enter(5)


def test_full_gate_raises_or_ignores():
    raising, ignoring = (gate(max_messages=1, when_full=w) for w in ("raise", "ignore"))
    assert raising.enter(7)
    with pytest.raises(FlowControlError, match=r"8 bytes.*max_messages=1,.*when_full='block'"):
        raising.enter(8)
    assert all(ignoring.enter(1) for _ in range(10))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_messages": 0}, "max_messages=0"),
        ({"max_bytes": -1}, "max_bytes=-1"),
        ({"when_full": "drop"}, "'drop' is unknown.*'block', 'raise'"),
    ],
)
def test_wrong_limit_is_an_error(limits, told):
    with pytest.raises(SetupError, match=told):
        PublishFlow(**limits)
