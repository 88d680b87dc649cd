"""faststream_pubsub against Google's client: the same messages on one embedded server, in one run.

Both publish single messages of 1 KiB as fast as they can, and handle a backlog of them: one by one
and, ours, in batches; with and without a pydantic model. The server is a process of its own, so CPU
is the client's. Latency is from publish to handler at 100 messages a second. Ratios are ours
against theirs, above 1 where ours is better. `cpu_ratio` is our CPU per message against the floor:
a raw grpc.aio consumer plus FastStream's own handling of a message.

Run: python -m benchmarks.broker [--messages 10000] [--latency-seconds 2]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.message import Message
from pydantic import BaseModel

from faststream_pubsub import PubSubBroker, wire
from faststream_pubsub.deliveries import Delivery

PROJECT = "benchmark"
PER_SECOND = 100
TEXT = "x" * 980


class Order(BaseModel):
    number: int
    sent_at: float
    text: str


def body(number: int) -> dict[str, Any]:
    return {"number": number, "sent_at": time.perf_counter(), "text": TEXT}


@dataclass(frozen=True)
class Cost:
    """What a number of messages took."""

    per_second: float
    cpu_us: float


@contextmanager
def server() -> Iterator[str]:
    command = [sys.executable, "-m", "embedded_pubsub", "--port", "0", "--in-memory"]
    child = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        yield str(json.loads(child.stdout.readline())["grpc"])
    finally:
        child.terminate()
        child.wait()


class Stopwatch:
    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Cost:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Cost(self._messages / wall, cpu / self._messages * 1e6)


# ours


def make_broker(*, typed: bool = True) -> PubSubBroker:
    return PubSubBroker(PROJECT, logger=None, apply_types=typed)


async def our_publish(topic: str, messages: int, *, batch: bool) -> Cost:
    async with make_broker() as broker:
        await broker.publish(body(0), topic)
        watch = Stopwatch(messages)
        if batch:
            for start in range(0, messages, 1_000):
                numbers = range(start, min(start + 1_000, messages))
                await broker.publish_batch(*map(body, numbers), topic=topic)
        else:
            await asyncio.gather(*[broker.publish(body(n), topic) for n in range(messages)])
        return watch.read()


async def our_consume(topic: str, messages: int, *, typed: bool, batch: bool) -> Cost:
    """Handle a backlog; the counter's last number ends the watch."""
    broker = make_broker(typed=typed)
    seen, all_seen = 0, asyncio.Event()

    def count(handled: int) -> None:
        nonlocal seen
        seen += handled
        if seen >= messages:
            all_seen.set()

    # no underscore in front of a name: pydantic would not look at the argument
    async def one_typed(order: Order) -> None:
        assert type(order) is Order
        count(1)

    async def one(order: object) -> None:
        assert type(order) is dict
        count(1)

    async def many_typed(orders: list[Order]) -> None:
        assert type(orders[0]) is Order
        count(len(orders))

    async def many(orders: list[object]) -> None:
        assert type(orders[0]) is dict
        count(len(orders))

    handlers: dict[tuple[bool, bool], Callable[..., Awaitable[None]]] = {
        (True, False): one_typed,
        (False, False): one,
        (True, True): many_typed,
        (False, True): many,
    }
    subscription = f"{topic}-{'typed' if typed else 'plain'}-{'batch' if batch else 'one'}"
    subscribe = broker.subscriber(topic, subscription=subscription, batch=batch, max_batch_size=500)
    subscribe(handlers[typed, batch])
    await broker.setup()
    await fill(topic, messages)
    watch = Stopwatch(messages)
    async with broker:
        await broker.start()
        await all_seen.wait()
        return watch.read()


async def fill(topic: str, messages: int) -> None:
    async with make_broker() as filler:
        for start in range(0, messages, 1_000):
            numbers = range(start, min(start + 1_000, messages))
            await filler.publish_batch(*map(body, numbers), topic=topic)


async def our_latency(topic: str, messages: int) -> list[float]:
    broker = make_broker()
    delays: list[float] = []
    all_seen = asyncio.Event()

    @broker.subscriber(topic)
    async def read(order: Order) -> None:
        delays.append(time.perf_counter() - order.sent_at)
        if len(delays) > messages:
            all_seen.set()

    async with broker:
        await broker.start()
        await broker.publish(body(0), topic)
        for number in range(messages):
            await asyncio.sleep(1 / PER_SECOND)
            await broker.publish(body(number), topic)
        await all_seen.wait()
    return delays[1:]


# the floor: what any FastStream broker on grpc.aio has to spend


async def raw_consume(topic: str, messages: int) -> Cost:
    """StreamingPull and acks by hand, without leases, queue or handler."""
    broker = make_broker()
    subscription = f"projects/{PROJECT}/subscriptions/{topic}-sub"
    broker.subscriber(topic)
    await broker.setup()
    await fill(topic, messages)
    async with grpc.aio.insecure_channel(os.environ["PUBSUB_EMULATOR_HOST"]) as channel:
        rpcs = wire.bind(channel)
        watch, seen = Stopwatch(messages), 0
        stream = rpcs.streaming_pull()
        opening = {"subscription": subscription, "stream_ack_deadline_seconds": 10}
        await stream.write(wire.StreamingPullRequest(**opening))
        while seen < messages:
            received = (await stream.read()).received_messages
            seen += len(received)
            ack_ids = [message.ack_id for message in received]
            await rpcs.acknowledge(
                wire.AcknowledgeRequest(subscription=subscription, ack_ids=ack_ids)
            )
        cost = watch.read()
        stream.cancel()
    await broker.stop()
    return cost


class NoSettler:
    def ack(self, delivery: Delivery) -> None: ...


async def bare_handling(messages: int, *, typed: bool) -> Cost:
    """FastStream's own `consume`, with messages that are there and nobody to settle with."""
    broker = make_broker(typed=typed)
    subscriber = broker.subscriber("bare")

    @subscriber
    async def typed_handler(order: Order) -> None: ...

    message = wire.PubsubMessage(
        data=json.dumps(body(0)).encode(), attributes={"content-type": "application/json"}
    )
    deliveries = [
        Delivery(message, ack_id="a", attempt=0, subscription="s", settler=NoSettler())
        for _ in range(messages)
    ]
    async with broker:
        await broker.start()
        watch = Stopwatch(messages)
        for delivery in deliveries:
            await subscriber.consume(delivery)
        return watch.read()


async def floor(messages: int, *, typed: bool) -> float:
    """Microseconds of CPU per message."""
    raw = await raw_consume(f"raw-{'typed' if typed else 'plain'}", messages)
    bare = await bare_handling(messages, typed=typed)
    return raw.cpu_us + bare.cpu_us


# theirs


def their_topic(topic: str) -> tuple[pubsub_v1.PublisherClient, str]:
    publisher = pubsub_v1.PublisherClient()
    path = publisher.topic_path(PROJECT, topic)
    publisher.create_topic(name=path)
    return publisher, path


def their_publish(topic: str, messages: int) -> Cost:
    publisher, path = their_topic(topic)
    publisher.publish(path, b"warm").result()
    watch = Stopwatch(messages)
    futures = [publisher.publish(path, json.dumps(body(n)).encode()) for n in range(messages)]
    for future in futures:
        future.result()
    cost = watch.read()
    publisher.stop()
    return cost


def their_subscription(topic: str) -> tuple[pubsub_v1.SubscriberClient, str, Any, str]:
    publisher, path = their_topic(topic)
    subscriber = pubsub_v1.SubscriberClient()
    name = subscriber.subscription_path(PROJECT, topic)
    subscriber.create_subscription(name=name, topic=path)
    return subscriber, name, publisher, path


def their_consume(topic: str, messages: int, *, typed: bool) -> Cost:
    subscriber, name, publisher, _ = their_subscription(topic)
    publisher.stop()
    asyncio.run(fill(topic, messages))
    seen, all_seen, lock = 0, threading.Event(), threading.Lock()

    def handle(message: Message) -> None:
        nonlocal seen
        if typed:
            Order.model_validate_json(message.data)
        message.ack()
        with lock:
            seen += 1
        if seen >= messages:
            all_seen.set()

    watch = Stopwatch(messages)
    future = subscriber.subscribe(name, callback=handle)
    all_seen.wait()
    cost = watch.read()
    future.cancel()
    future.result()
    subscriber.close()
    return cost


def their_latency(topic: str, messages: int) -> list[float]:
    subscriber, name, publisher, path = their_subscription(topic)
    delays: list[float] = []

    def handle(message: Message) -> None:
        delays.append(time.perf_counter() - Order.model_validate_json(message.data).sent_at)
        message.ack()

    future = subscriber.subscribe(name, callback=handle)
    publisher.publish(path, json.dumps(body(0)).encode()).result()
    for number in range(messages):
        time.sleep(1 / PER_SECOND)
        publisher.publish(path, json.dumps(body(number)).encode())
    while len(delays) <= messages:
        time.sleep(0.01)
    future.cancel()
    future.result()
    subscriber.close()
    publisher.stop()
    return delays[1:]


# figures


def compare(ours: Cost, theirs: Cost) -> dict[str, float]:
    return {
        "per_second": round(ours.per_second),
        "official_per_second": round(theirs.per_second),
        "ratio": round(ours.per_second / theirs.per_second, 2),
        "cpu_us": round(ours.cpu_us, 1),
        "official_cpu_us": round(theirs.cpu_us, 1),
    }


def compare_latency(messages: int) -> dict[str, float]:
    ours = asyncio.run(our_latency("latency-ours", messages))
    theirs = their_latency("latency-theirs", messages)
    figures: dict[str, float] = {}
    for name, percent in (("p50", 50), ("p99", 99)):
        mine, other = (statistics.quantiles(d, n=100)[percent - 1] * 1e3 for d in (ours, theirs))
        figures |= {
            f"{name}_ms": round(mine, 2),
            f"official_{name}_ms": round(other, 2),
            f"{name}_ratio": round(other / mine, 2),
        }
    return figures


def measure(messages: int, latency_seconds: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"messages": messages}
    published = their_publish("publish-theirs", messages)
    for batch in (False, True):
        kind = "batches" if batch else "single"
        ours = asyncio.run(our_publish(f"publish-ours-{kind}", messages, batch=batch))
        figures[f"publish_{kind}"] = compare(ours, published)
    for typed in (False, True):
        kind = "pydantic" if typed else "plain"
        theirs = their_consume(f"consume-theirs-{kind}", messages, typed=typed)
        for batch in (False, True):
            topic = f"consume-ours-{kind}-{'batch' if batch else 'one'}"
            ours = asyncio.run(our_consume(topic, messages, typed=typed, batch=batch))
            figures[f"consume_{'batches' if batch else 'single'}_{kind}"] = compare(ours, theirs)
        floor_us = asyncio.run(floor(messages, typed=typed))
        single = figures[f"consume_single_{kind}"]
        single |= {
            "floor_us": round(floor_us, 1),
            "cpu_ratio": round(single["cpu_us"] / floor_us, 2),
        }
    figures["latency"] = compare_latency(round(latency_seconds * PER_SECOND))
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--latency-seconds", type=float, default=2.0)
    given = parser.parse_args()
    with server() as target:
        os.environ["PUBSUB_EMULATOR_HOST"] = target
        print(json.dumps(measure(given.messages, given.latency_seconds), indent=2))
