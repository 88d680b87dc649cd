"""What stays of many messages: nothing. `benchmarks/broker_growth.py` does it with a million."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

PARTS, MESSAGES = 4, 2_500


def batched(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def alive() -> Counter[str]:
    """Objects of this package and of its messages, by type."""
    gc.collect()
    kinds = (type(one) for one in gc.get_objects())
    return Counter(
        kind.__qualname__
        for kind in kinds
        if str(kind.__module__).startswith(("faststream_pubsub", "asyncio", "_asyncio"))
    )


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_nothing_stays_of_ten_thousand_messages(bench, name):
    broker = bench.broker()
    handled, reached = 0, asyncio.Event()

    @broker.subscriber(name, max_workers=4)
    async def read(_: int) -> None:
        nonlocal handled
        handled += 1
        if handled % MESSAGES == 0:
            reached.set()

    tasks_before = len(asyncio.all_tasks())
    counts = []
    async with broker:
        await broker.start()
        for part in range(PARTS):
            # a lane for each ordering key must go away again
            for keys in batched(range(part * MESSAGES, (part + 1) * MESSAGES, 5), 100):
                await asyncio.gather(
                    *(
                        broker.publish_batch(*range(5), topic=name, ordering_key=f"{k}")
                        for k in keys
                    )
                )
            await asyncio.wait_for(reached.wait(), timeout=60)
            reached.clear()
            await asyncio.sleep(0.1)
            counts.append(alive())
    growth = {kind: n - counts[1][kind] for kind, n in counts[-1].items() if n > counts[1][kind]}
    growth.pop("Coalescer", None)
    assert sum(growth.values()) < 20, growth
    assert counts[-1]["Delivery"] < 10
    # idle lanes are swept when there are a thousand; there were two thousand keys
    assert counts[-1]["Coalescer"] <= 1_100
    assert handled == PARTS * MESSAGES
    assert len(asyncio.all_tasks()) == tasks_before
    assert alive()["Delivery"] == 0
