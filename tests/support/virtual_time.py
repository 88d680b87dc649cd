"""Long stretches of time in seconds: a loop that skips waits, and a server within the process."""

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc.aio import Metadata

from embedded_pubsub.errors import PubSubError
from embedded_pubsub.methods import methods
from embedded_pubsub.protos import StreamingPullRequest
from embedded_pubsub.rpc import status_of
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.store import MemoryStore
from embedded_pubsub.streaming import Stream


class _Skipping(selectors.DefaultSelector):  # type: ignore[misc, valid-type] # picked per platform
    skip: Callable[[float], None]

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events and timeout is None:
            raise RuntimeError("everything waits for ever")
        if not events and timeout:
            self.skip(timeout)
        return events


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands while there is work, and jumps to the next timer."""

    def __init__(self) -> None:
        selector = _Skipping()
        super().__init__(selector)
        self._now = 1_000_000.0
        selector.skip = self._skip

    def time(self) -> float:
        return self._now

    def _skip(self, seconds: float) -> None:
        self._now += seconds


class InProcessServer:
    """The embedded server without sockets, by the loop's clock: a channel leads right into it.

    Attributes:
        fault: Given to whoever calls or reads, as long as it is set.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._runtime = Runtime(MemoryStore(), loop.time)
        self._methods = {f"/{m.service}/{m.name}": m for m in methods(self._runtime)}
        self._streams: set[_Stream] = set()
        self.fault: grpc.StatusCode | None = None

    def channel(self) -> "Channel":
        return Channel(self)

    def end_streams(self, code: grpc.StatusCode, details: str) -> int:
        """End all streams with an error; say how many."""
        for stream in tuple(self._streams):
            stream.fail(failure(code, details))
        return len(self._streams)

    def silence_streams(self) -> None:
        """Leave all streams open, and say nothing on them any more."""
        for stream in tuple(self._streams):
            stream.is_silent = True

    async def call(self, path: str, data: bytes) -> bytes:
        self.check()
        method = self._methods[path]
        try:
            answer = await method.call(method.request.FromString(data), None)
        except PubSubError as error:
            raise _as_seen_by_clients(error) from error
        return answer if isinstance(answer, bytes) else answer.SerializeToString()

    async def serve(self, stream: "_Stream") -> None:
        self._streams.add(stream)
        try:
            requests = stream.requests()
            await Stream(self._runtime, await anext(requests)).run(requests, _Answers(stream))
        except PubSubError as error:
            stream.fail(_as_seen_by_clients(error))
        finally:
            self._streams.discard(stream)

    def check(self) -> None:
        if self.fault is not None:
            raise failure(self.fault, "as the test asked")


class Channel:
    """What `grpc.aio.Channel` is to this package."""

    def __init__(self, server: InProcessServer) -> None:
        self._server = server

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any) -> Any:
        async def call(request: Any, **_: object) -> Any:
            data = request_serializer(request) if request_serializer else request
            return response_deserializer(await self._server.call(path, data))

        return call

    def stream_stream(self, _: str, request_serializer: Any, response_deserializer: Any) -> Any:
        return lambda: _Stream(self._server, request_serializer, response_deserializer)

    async def close(self) -> None:
        pass


class _Stream:
    def __init__(self, server: InProcessServer, serialize: Any, deserialize: Any) -> None:
        self._serialize, self._deserialize = serialize, deserialize
        self._up: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._down: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._server = server
        self._serving: asyncio.Task[None] = asyncio.create_task(server.serve(self))
        self._reading: asyncio.Task[Any] | None = None
        self.is_silent = False

    # the client's side

    async def write(self, request: Any) -> None:
        self._server.check()
        self._up.put_nowait(self._serialize(request))

    async def read(self) -> Any:
        self._server.check()
        self._reading = asyncio.create_task(self._down.get())
        item = await self._reading
        if isinstance(item, Exception):
            raise item
        return self._deserialize(item)

    async def done_writing(self) -> None:
        self._up.put_nowait(None)
        await asyncio.wait([self._serving])
        self._down.put_nowait(failure(grpc.StatusCode.CANCELLED, "half-closed"))

    def cancel(self) -> None:
        self._serving.cancel()
        if self._reading is not None:
            self._reading.cancel()

    # the server's side

    def fail(self, error: Exception) -> None:
        self._down.put_nowait(error)
        self._serving.cancel()

    def answer(self, response: bytes) -> None:
        if not self.is_silent:
            self._down.put_nowait(response)

    async def requests(self) -> AsyncIterator[Any]:
        while (data := await self._up.get()) is not None:
            yield StreamingPullRequest.FromString(data)


class _Answers:
    """What `grpc.aio.ServicerContext` is to the server."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    async def write(self, response: bytes) -> None:
        self._stream.answer(response)


def failure(
    code: grpc.StatusCode, details: str, trailers: tuple[tuple[str, bytes], ...] = ()
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, Metadata(), Metadata(*trailers), details=details)


def _as_seen_by_clients(error: PubSubError) -> grpc.aio.AioRpcError:
    trailers = (("grpc-status-details-bin", status_of(error).SerializeToString()),)
    return failure(grpc.StatusCode[error.code], str(error), trailers)
