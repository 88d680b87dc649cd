"""Servers that the broker's contract holds on: in memory, embedded, and Google's emulator."""

import asyncio
import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from embedded_pubsub import Server
from faststream_pubsub import PubSubBroker, TestPubSubBroker
from tests.support.google_emulator import GoogleEmulator

PATIENCE_SECONDS = 8.0
"""Longer than any release, shorter than the 10 s lease that would hide a lost one."""


@pytest.fixture(scope="session")
def google_emulator() -> Iterator[GoogleEmulator]:
    emulator = GoogleEmulator()
    emulator.start()
    yield emulator
    emulator.kill()


class ServerProcess:
    """The embedded server as a child process, which keeps its port when it is killed."""

    def __init__(self, folder: Path | None) -> None:
        """Prepare a server that keeps its data in a folder, or, without one, in memory."""
        self._store = ["--in-memory"] if folder is None else ["--data-dir", str(folder)]
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "embedded_pubsub", "--no-fsync"),
                *("--port", str(self._port), *self._store),
            ],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self._port = int(told["grpc"].rpartition(":")[2])

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def forgetful_server() -> Iterator[ServerProcess]:
    server = ServerProcess(None)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def embedded_target() -> AsyncIterator[str]:
    async with Server(port=0, data_dir=None) as server:
        yield server.target


@pytest.fixture(params=["embedded", "google"])
def target(request: pytest.FixtureRequest) -> str:
    """Address of a real server."""
    if request.param == "google":
        return str(request.getfixturevalue("google_emulator").target)
    return str(request.getfixturevalue("embedded_target"))


class Proxy:
    """A way to a server that counts bytes, and whose connections can die without a word."""

    def __init__(self, target: str) -> None:
        self._host, self._port = target.split(":")
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._dead: set[asyncio.Task[None]] = set()
        self._far: list[asyncio.StreamWriter] = []
        self.sent_bytes = 0

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut_silently(self) -> None:
        """Leave the clients of all connections without a word; new connections work."""
        self._dead = set(self._pipes)
        for writer in self._far:
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _serve(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far, far_out = await asyncio.open_connection(self._host, self._port)
        self._far.append(far_out)
        self._pipes.add(asyncio.create_task(self._pipe(near, far_out, counts=True)))
        self._pipes.add(asyncio.create_task(self._pipe(far, near_out, counts=False)))

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool
    ) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while data := await reader.read(65_536):
                if asyncio.current_task() in self._dead:
                    continue
                self.sent_bytes += len(data) if counts else 0
                writer.write(data)
                await writer.drain()
            if asyncio.current_task() in self._dead:
                await asyncio.Event().wait()


@pytest.fixture
def make_proxy() -> type[Proxy]:
    return Proxy


class Bench:
    """Makes brokers and runs them."""

    def __init__(self, target: str | None) -> None:
        self._target = target

    @property
    def in_memory(self) -> bool:
        return self._target is None

    def broker(self, **options: Any) -> PubSubBroker:
        defaults: dict[str, Any] = {"emulator_host": self._target or "unused", "logger": None}
        return PubSubBroker(**(defaults | options))

    @asynccontextmanager
    async def running(self, broker: PubSubBroker) -> AsyncIterator[PubSubBroker]:
        context: AbstractAsyncContextManager[Any] = (
            TestPubSubBroker(broker, connect_only=False, raise_errors=False)
            if self.in_memory
            else broker
        )
        async with context:
            if not self.in_memory:
                await broker.start()
            yield broker


@pytest.fixture
def bench(target: str) -> Bench:
    """A bench on every real server."""
    return Bench(target)


@pytest.fixture
def own_server(embedded_target: str) -> Bench:
    """A bench on the embedded server."""
    return Bench(embedded_target)


@pytest.fixture(params=["memory", "embedded"])
def own_bench(request: pytest.FixtureRequest) -> Bench:
    """A bench where all of Pub/Sub's semantics hold: Google's emulator leaves some out."""
    if request.param == "memory":
        return Bench(None)
    return Bench(request.getfixturevalue("embedded_target"))


@pytest.fixture(params=["memory", "embedded", "google"])
def any_bench(request: pytest.FixtureRequest) -> Bench:
    """A bench in memory and on every real server."""
    match request.param:
        case "memory":
            return Bench(None)
        case "google":
            return Bench(request.getfixturevalue("google_emulator").target)
        case _:
            return Bench(request.getfixturevalue("embedded_target"))


@pytest.fixture
def name() -> str:
    """A topic's name that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


class Inbox:
    """What handlers have seen, to wait for."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._news = asyncio.Condition()

    async def put(self, item: Any) -> None:
        async with self._news:
            self.seen.append(item)
            self._news.notify_all()

    async def wait_for(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[Any]:
        """Wait until so many are there; what came is in the error otherwise."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: len(self.seen) >= count)
        assert len(self.seen) >= count, self.seen
        return self.seen


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def make_inbox() -> type[Inbox]:
    return Inbox


async def _until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what another part holds tells nobody
            await asyncio.sleep(0.01)


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait until something holds that nobody tells of."""
    return _until
