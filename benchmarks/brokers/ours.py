"""faststream_pubsub, and the floor under it."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from benchmarks.brokers.common import (
    AT_ONCE,
    PROJECT,
    Cost,
    Countdown,
    Order,
    Stopwatch,
    body,
    end_to_end,
    in_turns,
)
from faststream_pubsub import PubSubBroker, wire
from faststream_pubsub._faststream import SubscriberUsecase
from faststream_pubsub.deliveries import Delivery


def make_broker(*, typed: bool = True) -> PubSubBroker:
    return PubSubBroker(PROJECT, logger=None, apply_types=typed)


async def our_publish(topic: str, messages: int, *, how: str) -> Cost:
    """Publish one by one, all or 1,000 at a time, or in batches of 1,000."""
    async with make_broker() as broker:
        await broker.publish(body(0), topic)
        watch = Stopwatch(messages)
        match how:
            case "batches":
                for start in range(0, messages, AT_ONCE):
                    numbers = range(start, min(start + AT_ONCE, messages))
                    await broker.publish_batch(*map(body, numbers), topic=topic)
            case "single":
                await asyncio.gather(*[broker.publish(body(n), topic) for n in range(messages)])
            case "single_bounded":
                await in_turns(lambda order: broker.publish(order, topic), messages)
        return watch.read()


def make_handler(handled: Countdown, *, typed: bool, batch: bool) -> Callable[..., Awaitable[None]]:
    # no underscore in front of a name: pydantic would not look at the argument
    async def one_typed(order: Order) -> None:
        assert type(order) is Order
        handled.count()

    async def one(order: object) -> None:
        assert type(order) is dict
        handled.count()

    async def many_typed(orders: list[Order]) -> None:
        assert type(orders[0]) is Order
        handled.count(len(orders))

    async def many(orders: list[object]) -> None:
        assert type(orders[0]) is dict
        handled.count(len(orders))

    handlers: dict[tuple[bool, bool], Callable[..., Awaitable[None]]] = {
        (True, False): one_typed,
        (False, False): one,
        (True, True): many_typed,
        (False, True): many,
    }
    return handlers[typed, batch]


async def our_consume(topic: str, messages: int, *, typed: bool, batch: bool) -> Cost:
    """Handle a backlog."""
    broker = make_broker(typed=typed)
    handled = Countdown(messages)
    batches: dict[str, Any] = {"batch": True, "max_batch_size": 500} if batch else {}
    subscription = f"{topic}-{'typed' if typed else 'plain'}-{'batch' if batch else 'one'}"
    subscribe = broker.subscriber(topic, subscription=subscription, **batches)
    subscribe(make_handler(handled, typed=typed, batch=batch))
    await broker.setup()
    await fill(topic, messages)
    watch = Stopwatch(messages)
    async with broker:
        await broker.start()
        await handled.wait()
        return watch.read()


async def our_end_to_end(topic: str, messages: int) -> Cost:
    broker = make_broker()
    handled = Countdown(messages)
    broker.subscriber(topic)(make_handler(handled, typed=True, batch=False))
    async with broker:
        await broker.start()
        return await end_to_end(lambda order: broker.publish(order, topic), handled, messages)


async def fill(topic: str, messages: int) -> None:
    async with make_broker() as filler:
        for start in range(0, messages, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, messages))
            await filler.publish_batch(*map(body, numbers), topic=topic)


async def our_latency(topic: str, messages: int, per_second: float) -> list[float]:
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
            await asyncio.sleep(1 / per_second)
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
    """FastStream's own handling, with messages that are there and nobody to settle with."""
    broker = make_broker(typed=typed)
    subscriber = broker.subscriber("bare")
    subscriber(make_handler(Countdown(messages), typed=typed, batch=False))
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
            # not this broker's way through a handler: the floor must not move with it
            await SubscriberUsecase.process_message(subscriber, delivery)
        return watch.read()


async def floor(messages: int, *, typed: bool) -> dict[str, float]:
    """Microseconds of CPU per message: reading and acking by hand, and FastStream's handling."""
    raw = await raw_consume(f"raw-{'typed' if typed else 'plain'}", messages)
    bare = await bare_handling(messages, typed=typed)
    return {"raw_us": round(raw.cpu_us, 1), "faststream_us": round(bare.cpu_us, 1)}
