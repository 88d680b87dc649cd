"""What all sides of the broker benchmark share: the message, the watch, the server."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

from embedded_pubsub import Server

PROJECT = "benchmark"
TEXT = "x" * 980
AT_ONCE = 1_000
Publish: TypeAlias = Callable[[dict[str, Any]], Awaitable[object]]


class Order(BaseModel):
    number: int
    sent_at: float
    text: str


def body(number: int) -> dict[str, Any]:
    return {"number": number, "sent_at": time.perf_counter(), "text": TEXT}


@dataclass(frozen=True)
class Cost:
    """What a number of messages took this process: messages per second, microseconds of CPU."""

    per_second: float
    cpu_us: float


class Stopwatch:
    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Cost:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Cost(self._messages / wall, cpu / self._messages * 1e6)


class Countdown:
    """Counts handled messages until all have been seen."""

    def __init__(self, messages: int) -> None:
        self._left = messages
        self._all_seen = asyncio.Event()

    def count(self, handled: int = 1) -> None:
        self._left -= handled
        if self._left <= 0:
            self._all_seen.set()

    async def wait(self) -> None:
        await self._all_seen.wait()


async def end_to_end(
    publish: Publish, handled: Countdown, messages: int, at_once: int = AT_ONCE
) -> Cost:
    """Publish one by one, so many at a time, while a handler of the same process takes them."""
    watch = Stopwatch(messages)
    await in_turns(publish, messages, at_once)
    await handled.wait()
    return watch.read()


async def in_turns(publish: Publish, messages: int, at_once: int = AT_ONCE) -> None:
    for start in range(0, messages, at_once):
        numbers = range(start, min(start + at_once, messages))
        await asyncio.gather(*[publish(body(number)) for number in numbers])


@contextmanager
def server_process() -> Iterator[str]:
    """The embedded server as a process of its own, in memory."""
    command = [sys.executable, "-m", "embedded_pubsub", "--port", "0", "--in-memory"]
    child = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        yield str(json.loads(child.stdout.readline())["grpc"])
    finally:
        child.terminate()
        child.wait()


@contextmanager
def server_thread() -> Iterator[str]:
    """The embedded server in a thread of this process, whose CPU it shares with the clients."""
    targets: list[str] = []
    is_up = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with Server(port=0) as server:
            targets.append(server.target)
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    is_up.wait()
    try:
        yield targets[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
