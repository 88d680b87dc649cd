"""fastpubsub end to end, run by a Python that has it: `python fastpubsub_child.py MESSAGES`.

Its handlers take bytes, so the handler makes the pydantic model itself. Publishing leaves the
topic alone (`autocreate=False`), as it would ask for it with every message.
"""

import asyncio
import json
import logging
import sys
import time
from typing import Any

from fastpubsub import PubSubBroker
from fastpubsub.datastructures import Message
from pydantic import BaseModel

TEXT = "x" * 980
AT_ONCE = 1_000


class Order(BaseModel):
    number: int
    sent_at: float
    text: str


def body(number: int) -> dict[str, Any]:
    return {"number": number, "sent_at": time.perf_counter(), "text": TEXT}


async def main(messages: int) -> None:
    logging.disable(logging.WARNING)  # the other brokers log nothing, either
    broker = PubSubBroker(project_id="benchmark")
    left, all_seen = messages, asyncio.Event()

    @broker.subscriber("orders", topic_name="fastpubsub", subscription_name="fastpubsub-sub")
    async def read(message: Message) -> None:
        nonlocal left
        Order.model_validate_json(message.data)
        left -= 1
        if left <= 0:
            all_seen.set()

    await broker.start()
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, messages, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, messages))
        await asyncio.gather(
            *[broker.publish("fastpubsub", body(n), autocreate=False) for n in numbers]
        )
    await all_seen.wait()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"per_second": messages / wall, "cpu_us": cpu / messages * 1e6}), flush=True)
    await broker.shutdown()


asyncio.run(main(int(sys.argv[1])))
