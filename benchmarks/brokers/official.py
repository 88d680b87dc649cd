"""Google's own client, as its documentation drives it: callbacks that ack, publish futures."""

import asyncio
import json
import threading
import time
from typing import Any

from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.message import Message

from benchmarks.brokers.common import PROJECT, Cost, Order, Stopwatch, body
from benchmarks.brokers.ours import fill


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


def their_latency(topic: str, messages: int, per_second: float) -> list[float]:
    subscriber, name, publisher, path = their_subscription(topic)
    delays: list[float] = []

    def handle(message: Message) -> None:
        delays.append(time.perf_counter() - Order.model_validate_json(message.data).sent_at)
        message.ack()

    future = subscriber.subscribe(name, callback=handle)
    publisher.publish(path, json.dumps(body(0)).encode()).result()
    for number in range(messages):
        time.sleep(1 / per_second)
        publisher.publish(path, json.dumps(body(number)).encode())
    while len(delays) <= messages:
        time.sleep(0.01)
    future.cancel()
    future.result()
    subscriber.close()
    publisher.stop()
    return delays[1:]
