import asyncio

from faststream_pubsub.coalescer import Coalescer


class Line:
    """A slow line: each call waits to be let through."""

    def __init__(self):
        self.calls = []
        self.gate = asyncio.Semaphore(0)

    async def send(self, batch):
        self.calls.append(batch)
        await self.gate.acquire()

    async def called(self, calls):
        while len(self.calls) < calls:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)

    async def let_through(self, calls):
        for _ in range(calls):
            self.gate.release()
        await asyncio.sleep(0)


async def test_items_gather_while_a_call_is_in_flight():
    line = Line()
    coalescer = Coalescer(line.send, max_items=100)
    coalescer.add(0)
    await asyncio.sleep(0)
    for item in range(1, 10):
        coalescer.add(item)
        await asyncio.sleep(0)
    assert line.calls == [[0]]
    await line.let_through(2)
    await coalescer.flush()
    assert line.calls == [[0], list(range(1, 10))]
    assert coalescer.idle


async def test_a_batch_holds_no_more_than_allowed():
    line = Line()
    coalescer = Coalescer(line.send, max_items=3)
    coalescer.extend(range(7))
    await line.let_through(3)
    await coalescer.flush()
    assert line.calls == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_batch_weighs_no_more_than_allowed_unless_alone():
    line = Line()
    coalescer = Coalescer(line.send, max_items=10, weigh=len, max_weight=5)
    coalescer.extend(["aa", "bbb", "c", "dddddddd", "e"])
    await line.let_through(4)
    await coalescer.flush()
    assert line.calls == [["aa", "bbb"], ["c"], ["dddddddd"], ["e"]]


async def test_abort_drops_what_waits():
    line = Line()
    coalescer = Coalescer(line.send, max_items=1)
    coalescer.extend([1, 2])
    await asyncio.sleep(0)
    await coalescer.abort()
    assert line.calls == [[1]]
    assert coalescer.idle
    assert coalescer.take_waiting() == []


async def test_full_calls_are_in_flight_together_where_that_is_allowed():
    line = Line()
    coalescer = Coalescer(line.send, max_items=2, max_in_flight=3)
    for item in range(9):
        coalescer.add(item)
    await asyncio.sleep(0)
    assert line.calls == [[0, 1], [2, 3], [4, 5]]
    await line.let_through(5)
    await coalescer.flush()
    assert line.calls[3:] == [[6, 7], [8]]


async def test_few_items_wait_for_one_call_even_if_more_are_allowed():
    line = Line()
    coalescer = Coalescer(line.send, max_items=100, max_in_flight=3)
    coalescer.add(0)
    await asyncio.sleep(0)
    coalescer.extend([1, 2])
    await asyncio.sleep(0)
    assert line.calls == [[0]]
    await line.let_through(2)
    await coalescer.flush()
    assert line.calls == [[0], [1, 2]]


async def test_item_that_comes_as_a_call_ends_is_sent():
    sent = []

    async def send(batch):
        sent.append(batch)

    coalescer = Coalescer(send, max_items=1)
    for item in range(3):
        coalescer.add(item)
        await asyncio.sleep(0)
    await coalescer.flush()
    assert sent == [[0], [1], [2]]


async def test_items_after_an_abort_are_sent():
    line = Line()
    coalescer = Coalescer(line.send, max_items=1)
    coalescer.add(1)
    await coalescer.abort()
    assert coalescer.idle
    coalescer.add(2)
    await line.let_through(1)
    await coalescer.flush()
    assert line.calls == [[2]]


async def test_items_wait_for_others_until_a_call_is_full():
    line = Line()
    coalescer = Coalescer(line.send, max_items=3, linger_seconds=3_600)
    for item in range(2):
        coalescer.add(item)
        await asyncio.sleep(0)
    assert line.calls == []
    coalescer.add(2)
    await line.called(1)
    assert line.calls == [[0, 1, 2]]
    await line.let_through(1)
    await coalescer.flush()


async def test_items_wait_for_others_until_a_call_is_heavy():
    line = Line()
    coalescer = Coalescer(line.send, max_items=9, weigh=len, max_weight=5, linger_seconds=3_600)
    for item in ("aa", "bbb", "cc", "ddd"):
        coalescer.add(item)
    await line.let_through(2)
    await line.called(2)
    assert line.calls == [["aa", "bbb"], ["cc", "ddd"]]
    await coalescer.flush()


async def test_items_wait_no_longer_than_they_should():
    line = Line()
    coalescer = Coalescer(line.send, max_items=9, linger_seconds=0.001)
    await line.let_through(1)
    coalescer.add(1)
    await line.called(1)
    await coalescer.flush()
    assert line.calls == [[1]]


async def test_a_flush_waits_for_no_others():
    line = Line()
    coalescer = Coalescer(line.send, max_items=9, linger_seconds=3_600)
    await line.let_through(2)
    coalescer.extend([1, 2])
    await coalescer.flush()
    coalescer.add(3)
    await asyncio.sleep(0)
    await coalescer.flush()
    assert line.calls == [[1, 2], [3]]
