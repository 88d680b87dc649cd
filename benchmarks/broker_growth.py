"""faststream_pubsub for a million messages: does memory grow, does a task stay?

One process publishes and handles messages of 1 KiB with a pydantic handler, every fifth with an
ordering key of its own, on an embedded server that is a process of its own. Memory is the resident
set after every tenth part, read when nothing is on its way and garbage is collected.

The first tenth warms up. It passes if, after it, the median of the second half is less than 5 %
above that of the first half (single readings differ by as much, as the allocator gives pages back
when it likes), and no task and no delivery is left after stop.

Run: python -m benchmarks.broker_growth [--messages 1000000]
"""

import argparse
import asyncio
import gc
import json
import statistics
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.brokers.common import TEXT, server_process
from faststream_pubsub import PubSubBroker
from faststream_pubsub.deliveries import Delivery

TOPIC = "growth"
CHUNK = 500
PARTS = 10
MOST_GROWTH = 0.05
PAGE_KIB = 4


class Order(BaseModel):
    number: int
    text: str


def rss_mib() -> float:
    """Resident set of this process, from procfs."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB / 1024


class Counted:
    """Handled messages, to wait for."""

    def __init__(self) -> None:
        self.count = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    def add(self) -> None:
        self.count += 1
        if self.count >= self._wanted:
            self._reached.set()

    async def wait_for(self, count: int) -> None:
        self._wanted = count
        self._reached.clear()
        if self.count < count:
            await self._reached.wait()


async def publish(broker: PubSubBroker, start: int, count: int) -> None:
    for first in range(start, start + count, CHUNK):
        orders = [Order(number=n, text=TEXT) for n in range(first, first + CHUNK)]
        # every lane of an ordering key has to go away again
        key = f"key-{first}" if first // CHUNK % 5 == 0 else ""
        await broker.publish_batch(*orders, topic=TOPIC, ordering_key=key)


async def run(target: str, messages: int) -> dict[str, Any]:
    before = len(asyncio.all_tasks())
    broker = PubSubBroker(emulator_host=target, logger=None)
    handled = Counted()

    @broker.subscriber(TOPIC, max_workers=4)
    async def read(_: Order) -> None:
        handled.add()

    began, cpu = time.perf_counter(), time.process_time()
    part = messages // PARTS
    rss: list[float] = []
    async with broker:
        await broker.start()
        for done in range(0, part * PARTS, part):
            await publish(broker, done, part)
            await handled.wait_for(done + part)
            rss.append(round(rss_mib(), 1))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    gc.collect()
    growth = statistics.median(rss[PARTS // 2 :]) / statistics.median(rss[1 : PARTS // 2]) - 1
    deliveries = sum(isinstance(one, Delivery) for one in gc.get_objects())
    tasks = len(asyncio.all_tasks()) - before
    return {
        "messages": handled.count,
        "seconds": round(seconds, 1),
        "cpu_us_per_message": round(cpu / messages * 1e6, 1),
        "rss_mib": rss,
        "growth": round(growth, 4),
        "tasks_after_stop": tasks,
        "deliveries_after_stop": deliveries,
        "passed": growth < MOST_GROWTH and tasks == 0 and deliveries == 0,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    with server_process() as target:
        result = asyncio.run(run(target, parser.parse_args().messages))
    print(json.dumps(result, indent=2))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
