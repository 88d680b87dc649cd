"""faststream_pubsub against its peers: the same messages of 1 KiB, in one run.

Against Google's client, on one embedded server in a process of its own, so that CPU is the
client's: both publish single messages as fast as they can, and handle a backlog of them: one by one
and, ours, in batches; with and without a pydantic model. Latency is from publish to handler at 100
messages a second. Ratios are ours against theirs, above 1 where ours is better. Ours publishes all
messages at once, as theirs does, and, bounded, 1,000 at a time. `cpu_ratio` is our CPU per message
against the floor: a raw grpc.aio consumer plus FastStream's own handling of a message.

`in_process` is the same with the server in a thread of this very process, as in tests: client and
server then share one interpreter, and CPU is that of both.

`end_to_end` publishes and handles at the same time in one process, with a pydantic handler, beside
FastStream's brokers for NATS JetStream (memory storage) and Redis lists on their own servers, and
fastpubsub on the embedded server. A peer that is not installed says what it lacks.

Run: python -m benchmarks.broker [--messages 10000] [--latency-seconds 2]
    [--fastpubsub-python PATH]
"""

import argparse
import asyncio
import json
import os
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.brokers import ours, peers
from benchmarks.brokers.common import Cost, server_process, server_thread
from benchmarks.brokers.official import their_consume, their_latency, their_publish

PER_SECOND = 100


def compare(own: Cost, theirs: Cost) -> dict[str, float]:
    return {
        "per_second": round(own.per_second),
        "official_per_second": round(theirs.per_second),
        "ratio": round(own.per_second / theirs.per_second, 2),
        "cpu_us": round(own.cpu_us, 1),
        "official_cpu_us": round(theirs.cpu_us, 1),
    }


def compare_publishing(prefix: str, messages: int) -> dict[str, Any]:
    theirs = their_publish(f"{prefix}-publish-theirs", messages)
    figures: dict[str, Any] = {}
    for how in ("single", "single_bounded", "batches"):
        own = asyncio.run(ours.our_publish(f"{prefix}-publish-{how}", messages, how=how))
        figures[f"publish_{how}"] = compare(own, theirs)
    return figures


def compare_consuming(prefix: str, messages: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for typed in (False, True):
        kind = "pydantic" if typed else "plain"
        theirs = their_consume(f"{prefix}-theirs-{kind}", messages, typed=typed)
        for batch in (False, True):
            what = "batches" if batch else "single"
            topic = f"{prefix}-ours-{kind}-{what}"
            own = asyncio.run(ours.our_consume(topic, messages, typed=typed, batch=batch))
            figures[f"consume_{what}_{kind}"] = compare(own, theirs)
    return figures


def add_floor(figures: dict[str, Any], messages: int) -> None:
    for typed in (False, True):
        single = figures[f"consume_single_{'pydantic' if typed else 'plain'}"]
        floor = asyncio.run(ours.floor(messages, typed=typed))
        single |= {**floor, "cpu_ratio": round(single["cpu_us"] / sum(floor.values()), 2)}


def compare_latency(messages: int) -> dict[str, float]:
    own = asyncio.run(ours.our_latency("latency-ours", messages, PER_SECOND))
    theirs = their_latency("latency-theirs", messages, PER_SECOND)
    figures: dict[str, float] = {}
    for name, percent in (("p50", 50), ("p99", 99)):
        mine, other = (statistics.quantiles(d, n=100)[percent - 1] * 1e3 for d in (own, theirs))
        figures |= {
            f"{name}_ms": round(mine, 2),
            f"official_{name}_ms": round(other, 2),
            f"{name}_ratio": round(other / mine, 2),
        }
    return figures


def compare_end_to_end(messages: int, fastpubsub_python: str | None) -> dict[str, Any]:
    own = asyncio.run(ours.our_end_to_end("end-to-end", messages))
    figures: dict[str, Any] = {
        "faststream_pubsub": {"per_second": round(own.per_second), "cpu_us": round(own.cpu_us, 1)}
    }
    others: dict[str, Callable[[], Cost]] = {
        "faststream_nats_jetstream": lambda: peers.nats_jetstream(messages),
        "faststream_redis_list": lambda: peers.redis_list(messages),
        "fastpubsub": lambda: peers.fastpubsub(messages, fastpubsub_python),
    }
    for name, measure_peer in others.items():
        try:
            cost = measure_peer()
        except peers.AbsentError as reason:
            figures[name] = {"left_out": str(reason)}
            continue
        figures[name] = {
            "per_second": round(cost.per_second),
            "cpu_us": round(cost.cpu_us, 1),
            "ratio": round(own.per_second / cost.per_second, 2),
        }
    return figures


def measure(messages: int, latency_seconds: float, fastpubsub_python: str | None) -> dict[str, Any]:
    figures: dict[str, Any] = {"messages": messages}
    with server_process() as target:
        os.environ["PUBSUB_EMULATOR_HOST"] = target
        figures |= compare_publishing("apart", messages)
        figures |= compare_consuming("apart", messages)
        add_floor(figures, messages)
        figures["latency"] = compare_latency(round(latency_seconds * PER_SECOND))
        figures["end_to_end"] = compare_end_to_end(messages, fastpubsub_python)
    with server_thread() as target:
        os.environ["PUBSUB_EMULATOR_HOST"] = target
        figures["in_process"] = compare_publishing("within", messages)
        figures["in_process"] |= compare_consuming("within", messages)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--latency-seconds", type=float, default=2.0)
    parser.add_argument("--fastpubsub-python", metavar="PATH")
    given = parser.parse_args()
    found = measure(given.messages, given.latency_seconds, given.fastpubsub_python)
    print(json.dumps(found, indent=2))
