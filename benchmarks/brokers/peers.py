"""FastStream's own brokers for NATS JetStream and Redis lists, and fastpubsub: end to end.

Each takes the same messages through its own server, which is a process of its own, with a handler
that takes a pydantic model. What is not installed is told and left out.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.brokers.common import Cost, Countdown, Order, end_to_end

PATIENCE_SECONDS = 20.0
REDIS_AT_ONCE = 90
"""redis-py takes a connection for each command in flight, and raises beyond 100; the handler's
reading takes some."""


class AbsentError(Exception):
    """Something that a peer needs is not there."""


def find(program: str) -> str:
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise AbsentError(f"{program} is not on the PATH")
    return found


@contextmanager
def running(make_command: Callable[[int, str], list[str]]) -> Iterator[str]:
    """Run a server with a free port and a folder of its own; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = make_command(port, folder)
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        try:
            _wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            child.terminate()
            child.wait()


def _wait_for(port: int) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AbsentError(f"nothing listens on port {port} after {PATIENCE_SECONDS:.0f} s")


def nats_jetstream(messages: int) -> Cost:
    try:
        from faststream.nats import JStream, NatsBroker  # noqa: PLC0415 - an optional peer
    except ImportError as error:
        raise AbsentError(f"{error.name} is not installed: pip install --group bench") from error
    program = find("nats-server")

    async def run(address: str) -> Cost:
        broker = NatsBroker(f"nats://{address}", logger=None)
        stream = JStream("orders", storage="memory")
        handled = Countdown(messages)

        @broker.subscriber("orders", stream=stream)
        async def read(order: Order) -> None:
            assert type(order) is Order
            handled.count()

        async with broker:
            await broker.start()
            return await end_to_end(
                lambda order: broker.publish(order, "orders", stream="orders", timeout=30.0),
                handled,
                messages,
            )

    def command(port: int, folder: str) -> list[str]:
        return [program, "-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(port)]

    with running(command) as address:
        return asyncio.run(run(address))


def redis_list(messages: int) -> Cost:
    try:
        from faststream.redis import RedisBroker  # noqa: PLC0415 - an optional peer
    except ImportError as error:
        raise AbsentError(f"{error.name} is not installed: pip install --group bench") from error
    program = find("redis-server")

    async def run(address: str) -> Cost:
        broker = RedisBroker(f"redis://{address}", logger=None)
        handled = Countdown(messages)

        @broker.subscriber(list="orders")
        async def read(order: Order) -> None:
            assert type(order) is Order
            handled.count()

        async with broker:
            await broker.start()
            return await end_to_end(
                lambda order: broker.publish(order, list="orders"),
                handled,
                messages,
                REDIS_AT_ONCE,
            )

    def command(port: int, folder: str) -> list[str]:
        return [program, "--port", str(port), "--dir", folder, "--save", "", "--bind", "127.0.0.1"]

    with running(command) as address:
        return asyncio.run(run(address))


def fastpubsub(messages: int, python: str | None) -> Cost:
    """In a process of its own, as it needs a newer Python."""
    if python is None:
        raise AbsentError(
            "say which Python (>= 3.12) has fastpubsub 0.9.8: --fastpubsub-python PATH"
        )
    script = Path(__file__).with_name("fastpubsub_child.py")
    child = subprocess.run(
        [python, str(script), str(messages)],
        stdout=subprocess.PIPE,
        env=dict(os.environ) | {"PYTHONWARNINGS": "ignore"},
        check=False,
    )
    if child.returncode:
        raise AbsentError(f"{python} can't run it: exit status {child.returncode}")
    return Cost(**json.loads(child.stdout.splitlines()[-1]))
