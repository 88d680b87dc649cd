"""How the embedded Pub/Sub server scales: its CPU time per message, against a base case.

Each case runs on a server of its own, pinned to one core, the client to another. What is compared
is the server's CPU time, which other work on the machine hardly changes. Called by
`python -m benchmarks.server --scaling`.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from embedded_pubsub import protos

ROOT = Path(__file__).parents[1]
BODY = bytes(range(256)) * 4
PER_REQUEST = 100
PUBLISHERS = 8
OPTIONS = (("grpc.max_receive_message_length", -1),)
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))


@dataclass
class Process:
    """A server, and what it has used since it was last asked."""

    child: subprocess.Popen[bytes]
    target: str
    ready_seconds: float
    _used: float = field(default=0.0)

    def cpu_seconds(self) -> float:
        used = self._ticks() / TICKS_PER_SECOND
        since, self._used = used - self._used, used
        return since

    def _ticks(self) -> int:
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def rss_mb(self) -> int:
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
        return 0


@contextmanager
def serving(data_dir: Path | None) -> Iterator[Process]:
    where = ["--in-memory"] if data_dir is None else ["--data-dir", str(data_dir), "--no-fsync"]
    command = [sys.executable, "-m", "embedded_pubsub", "--port", "0", *where]
    os.sched_setaffinity(0, {CORES[-1]})  # a child has the cores of its parent
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        os.sched_setaffinity(0, {CORES[0]})
        assert child.stdout is not None
        target = json.loads(child.stdout.readline())["grpc"]
        try:
            yield Process(child, target, time.perf_counter() - started)
        finally:
            child.kill()


class Client:
    """Serialized requests over grpc.aio."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._publish = channel.unary_unary("/google.pubsub.v1.Publisher/Publish")

    async def create(self, topic: int, subscriptions: int) -> None:
        await self._call("Publisher/CreateTopic", protos.Topic(name=topic_name(topic)))
        for number in range(subscriptions):
            request = protos.Subscription(
                name=subscription_name(topic, number),
                topic=topic_name(topic),
                ack_deadline_seconds=600,
            )
            await self._call("Subscriber/CreateSubscription", request)

    async def publish(self, topics: int, count: int) -> None:
        """Publish `count` messages, a request to one topic after the other."""
        messages = [protos.PubsubMessage(data=BODY)] * PER_REQUEST
        requests = [
            protos.PublishRequest(topic=topic_name(n), messages=messages).SerializeToString()
            for n in range(topics)
        ]
        left = iter(range(count // PER_REQUEST))

        async def publisher() -> None:
            for number in left:
                await self._publish(requests[number % topics])

        await asyncio.gather(*(publisher() for _ in range(PUBLISHERS)))

    async def consume(self, topic: int, subscription: int, count: int) -> None:
        """Receive and ack at least `count` messages."""
        stream = self._channel.stream_stream("/google.pubsub.v1.Subscriber/StreamingPull")()
        opening = protos.StreamingPullRequest(
            subscription=subscription_name(topic, subscription), stream_ack_deadline_seconds=600
        )
        await stream.write(opening.SerializeToString())
        received = 0
        while received < count:
            answer = protos.StreamingPullResponse.FromString(await stream.read())
            ack_ids = [each.ack_id for each in answer.received_messages]
            received += len(ack_ids)
            acks = protos.StreamingPullRequest(ack_ids=ack_ids)
            await stream.write(acks.SerializeToString())
        await stream.done_writing()
        while await stream.read() is not grpc.aio.EOF:
            pass

    async def _call(self, method: str, request: protos.Proto) -> None:
        call = self._channel.unary_unary(f"/google.pubsub.v1.{method}")
        await call(request.SerializeToString())


def topic_name(number: int) -> str:
    return f"projects/benchmark/topics/topic-{number}"


def subscription_name(topic: int, number: int) -> str:
    return f"projects/benchmark/subscriptions/topic-{topic}-{number}"


Work = Callable[[Client], Awaitable[object]]


async def on(process: Process, *works: Work) -> list[float]:
    """Do one work after the other; gives the server's CPU seconds for each."""
    used = []
    async with grpc.aio.insecure_channel(process.target, options=OPTIONS) as channel:
        client = Client(channel)
        for work in works:
            process.cpu_seconds()
            await work(client)
            used.append(process.cpu_seconds())
    return used


def create(topics: int, subscriptions: int) -> Work:
    async def work(client: Client) -> None:
        for topic in range(topics):
            await client.create(topic, subscriptions)

    return work


def consume_all(topics: int, subscriptions: int, count: int) -> Work:
    async def work(client: Client) -> None:
        await asyncio.gather(
            *(client.consume(t, s, count) for t in range(topics) for s in range(subscriptions))
        )

    return work


def both(topics: int, count: int) -> Work:
    async def work(client: Client) -> None:
        every = count // topics
        await asyncio.gather(
            client.publish(topics, count), *(client.consume(t, 0, every) for t in range(topics))
        )

    return work


def fan_out(process: Process, subscriptions: int, count: int) -> dict[str, float]:
    """One topic: publish to all its subscriptions, then have each of them consume."""
    _, publish, consume = asyncio.run(
        on(
            process,
            create(1, subscriptions),
            lambda client: client.publish(1, count),
            consume_all(1, subscriptions, count),
        )
    )
    deliveries = count * subscriptions
    return {
        "publish_us": publish / count * 1e6,
        "deliver_us": consume / deliveries * 1e6,
    }


def many_topics(process: Process, topics: int, count: int) -> dict[str, float]:
    """Publish to topics in turn, each with a subscription that consumes at the same time."""
    _, used = asyncio.run(on(process, create(topics, 1), both(topics, count)))
    return {"publish_and_deliver_us": used / count * 1e6}


def deep_backlog(process: Process, backlog: int, count: int) -> dict[str, float]:
    """Publish and consume `count` messages on top of, or out of, a backlog."""
    _, _, publish, consume = asyncio.run(
        on(
            process,
            create(1, 1),
            lambda client: client.publish(1, backlog),
            lambda client: client.publish(1, count),
            consume_all(1, 1, count),
        )
    )
    return {
        "publish_us": publish / count * 1e6,
        "deliver_us": consume / count * 1e6,
        "rss_mb": process.rss_mb(),
    }


def restart(data_dir: Path) -> dict[str, float]:
    """Start again on what a killed server has left."""
    with serving(data_dir) as process:
        return {
            "ready_seconds": round(process.ready_seconds, 2),
            "ready_cpu_seconds": process.cpu_seconds(),
            "rss_mb": process.rss_mb(),
        }


def scaling(
    *, durable: bool, count: int, backlog: int, only: Iterable[str] = ()
) -> dict[str, object]:
    """Run every case; gives the figures, and the ratio of each to its base case."""
    cases: dict[str, Callable[[Process], dict[str, float]]] = {
        "1 subscription": lambda process: fan_out(process, 1, count),
        "10 subscriptions": lambda process: fan_out(process, 10, count),
        "100 subscriptions": lambda process: fan_out(process, 100, count // 2),
        "1 topic": lambda process: many_topics(process, 1, 4 * count),
        "1000 topics": lambda process: many_topics(process, 1000, 1000 * PER_REQUEST),
        "no backlog": lambda process: deep_backlog(process, 0, 4 * count),
        "backlog": lambda process: deep_backlog(process, backlog, 4 * count),
    }
    bases = {
        "10 subscriptions": "1 subscription",
        "100 subscriptions": "1 subscription",
        "1000 topics": "1 topic",
        "backlog": "no backlog",
    }
    figures: dict[str, dict[str, float]] = {}
    for name, case in cases.items():
        if only and name not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            data_dir = Path(folder) if durable else None
            with serving(data_dir) as process:
                figures[name] = case(process)
            if data_dir is not None and "backlog" in name:
                figures[f"restart, {name}"] = restart(data_dir)
    ratios = {
        name: {
            figure: round(value / figures[base][figure], 2)
            for figure, value in figures[name].items()
        }
        for name, base in bases.items()
        if name in figures and base in figures
    }
    rounded = {
        name: {figure: round(value, 2) for figure, value in found.items()}
        for name, found in figures.items()
    }
    return {"figures": rounded, "ratios": ratios}
