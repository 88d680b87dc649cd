"""The embedded Pub/Sub server beside Google's emulator: the same raw client, one run.

Each server is a process of its own, pinned to one core, the client to another where there are two.
Google's emulator is left out where it is not installed. Ratios are ours against Google's.

`memory` keeps nothing; `durable` is the default of a folder, `no_fsync` the same without waiting
for the disk: what lies between them is the disk, what lies between `no_fsync` and `memory` is
SQLite.

Run: python -m benchmarks.server [--messages 6000] [--kept 30000] [--seconds 3]
     python -m benchmarks.server --scaling [--backlog 1000000]
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import grpc.aio

from benchmarks._server_scaling import restart, scaling
from embedded_pubsub import protos

ROOT = Path(__file__).parents[1]
BODY = bytes(range(256)) * 4
PER_REQUEST = 100
PUBLISHERS = 8
RATE_PER_SECOND = 100
TOPIC = "projects/benchmark/topics/{}"
SUBSCRIPTION = "projects/benchmark/subscriptions/{}"
EMULATOR = "com.google.cloud.pubsub.testing.v1.Main"


CORES = sorted(os.sched_getaffinity(0))


def pin(core: int) -> None:
    os.sched_setaffinity(0, {CORES[core]})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def emulator_jar() -> Path | None:
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return None
    root = Path(gcloud).resolve().parents[1]
    jars = sorted(root.glob("platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar"))
    return jars[-1] if jars else None


def commands(folder: Path, port: int) -> dict[str, list[str]]:
    ours = [sys.executable, "-m", "embedded_pubsub", "--port", str(port)]
    found = {
        "memory": [*ours, "--in-memory"],
        "durable": [*ours, "--data-dir", str(folder / "durable")],
        "no_fsync": [*ours, "--data-dir", str(folder / "no_fsync"), "--no-fsync"],
    }
    jar = emulator_jar()
    if jar is not None:
        found["google"] = ["java", "-cp", str(jar), EMULATOR, "--host=127.0.0.1", f"--port={port}"]
    return found


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    silent = subprocess.DEVNULL
    pin(-1)  # a child has the cores of its parent
    with subprocess.Popen(command, cwd=ROOT, stdout=silent, stderr=silent) as child:
        pin(0)
        try:
            yield child
        finally:
            child.kill()


class Client:
    """Raw protobufs over grpc.aio."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(
        self, method: str, request: protos.Proto, response: type[protos.Proto] = protos.Empty
    ) -> protos.Proto:
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return await call(request, wait_for_ready=True)

    async def create(self, name: str) -> None:
        topic, subscription = TOPIC.format(name), SUBSCRIPTION.format(name)
        await self.call("Publisher/CreateTopic", protos.Topic(name=topic))
        request = protos.Subscription(name=subscription, topic=topic, ack_deadline_seconds=60)
        await self.call("Subscriber/CreateSubscription", request)

    async def publish(self, name: str, bodies: list[bytes]) -> None:
        messages = [protos.PubsubMessage(data=body) for body in bodies]
        request = protos.PublishRequest(topic=TOPIC.format(name), messages=messages)
        await self.call("Publisher/Publish", request)

    async def publish_many(self, name: str, count: int) -> None:
        left = iter(range(count // PER_REQUEST))

        async def publisher() -> None:
            for _ in left:
                await self.publish(name, [BODY] * PER_REQUEST)

        await asyncio.gather(*(publisher() for _ in range(PUBLISHERS)))

    async def consume(self, name: str, count: int) -> list[float]:
        """Receive and ack; gives the latencies of messages that hold the time they were sent."""
        stream = self._channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=protos.StreamingPullResponse.FromString,
        )()
        opening = protos.StreamingPullRequest(
            subscription=SUBSCRIPTION.format(name), stream_ack_deadline_seconds=60
        )
        await stream.write(opening)
        latencies: list[float] = []
        received = 0
        while received < count:
            answer = await stream.read()
            now = time.perf_counter()
            ids = [each.ack_id for each in answer.received_messages]
            latencies += [
                now - float(each.message.data)
                for each in answer.received_messages
                if len(each.message.data) < len(BODY)
            ]
            received += len(ids)
            if ids:
                await stream.write(protos.StreamingPullRequest(ack_ids=ids))
        await stream.done_writing()
        stream.cancel()
        return latencies

    async def publish_steadily(self, name: str, count: int) -> None:
        start = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(start + number / RATE_PER_SECOND - time.perf_counter())
            await self.publish(name, [str(time.perf_counter()).encode()])


async def measure(
    port: int, pid: int, started: float, options: argparse.Namespace
) -> dict[str, float]:
    count = options.messages
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}",
        options=[
            ("grpc.initial_reconnect_backoff_ms", 20),
            ("grpc.max_reconnect_backoff_ms", 20),
            ("grpc.max_receive_message_length", -1),
        ],
    ) as channel:
        client = Client(channel)
        await client.create("warm")
        await client.publish("warm", [BODY])
        ready = time.perf_counter() - started
        await client.publish_many("warm", 2000)
        await client.consume("warm", 2001)
        await client.create("flow")
        start = time.perf_counter()
        await client.publish_many("flow", count)
        published = time.perf_counter()
        await client.consume("flow", count)
        consumed = time.perf_counter()
        await asyncio.gather(client.publish_many("flow", count), client.consume("flow", count))
        both = time.perf_counter()
        steady = int(RATE_PER_SECOND * options.seconds)
        await client.create("steady")
        _, latencies = await asyncio.gather(
            client.publish_steadily("steady", steady), client.consume("steady", steady)
        )
        await client.create("kept")
        await client.publish_many("kept", options.kept)
    return {
        "first_publish_seconds": round(ready, 2),
        "publish_per_second": round(count / (published - start)),
        "consume_per_second": round(count / (consumed - published)),
        "end_to_end_per_second": round(count / (both - consumed)),
        "latency_p50_ms": round(median(latencies) * 1000, 2),
        "rss_mb": rss_mb(pid),
    }


def rss_mb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=6000, help="of 1 KiB, for each rate")
    parser.add_argument(
        "--kept", type=int, default=30_000, help="when memory, and a restart, are measured"
    )
    parser.add_argument("--seconds", type=float, default=3, help="of steady load, for latency")
    parser.add_argument("--scaling", action="store_true", help="cost per message as it grows")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="for --scaling")
    options = parser.parse_args()
    if options.scaling:
        kinds = {"memory": False, "no_fsync": True}
        found = {
            name: scaling(durable=durable, count=10_000, backlog=options.backlog)
            for name, durable in kinds.items()
        }
        print(json.dumps({"cores": os.cpu_count(), **found}, indent=2))
        return
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in commands(Path(folder), 0):
            port = free_port()
            started = time.perf_counter()
            with running(commands(Path(folder), port)[name]) as child:
                results[name] = asyncio.run(measure(port, child.pid, started, options))
            if (Path(folder) / name).exists():
                results[name]["restart_seconds"] = restart(Path(folder) / name)["ready_seconds"]
    ratios = {
        name: {
            figure: round(value / results["google"][figure], 2)
            for figure, value in results[name].items()
            if figure in results["google"]
        }
        for name in ("memory", "durable", "no_fsync")
        if "google" in results
    }
    print(json.dumps({"cores": os.cpu_count(), "servers": results, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
