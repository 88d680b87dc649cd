"""Clients that are broken, silent or many: the server refuses them and serves the others."""

import asyncio
import gc
import socket
from contextlib import ExitStack

import grpc
import grpc.aio
import pytest

from embedded_pubsub import Server, protos
from embedded_pubsub import server as server_module
from embedded_pubsub.runtime import Feed
from embedded_pubsub.streaming import Stream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


@pytest.fixture
def kind():
    return "memory"


def raw(channel, method, data):
    return channel.unary_unary(f"/google.pubsub.v1.{method}")(data, timeout=30)


@pytest.mark.parametrize(
    "method", ["Publisher/CreateTopic", "Publisher/Publish", "Subscriber/Pull"]
)
def test_what_is_no_protobuf_is_an_invalid_argument(target, method):
    with grpc.insecure_channel(target) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            raw(channel, method, b"\x0a\xff\xff")
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_stream_of_no_protobuf_is_an_invalid_argument(target):
    with grpc.insecure_channel(target) as channel:
        stream = channel.stream_stream("/google.pubsub.v1.Subscriber/StreamingPull")
        with pytest.raises(grpc.RpcError) as refused:
            next(stream(iter([b"\xff"]), timeout=30))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_request_over_the_limit_is_refused_and_the_next_is_served(target, pubsub):
    pubsub.create()
    with grpc.insecure_channel(target) as channel:
        for size in (10_000_001, 13 * 2**20):
            message = protos.PubsubMessage(data=bytes(size))
            request = protos.PublishRequest(topic=pubsub.topic, messages=[message])
            with pytest.raises(grpc.RpcError) as refused:
                raw(channel, "Publisher/Publish", request.SerializeToString())
            assert refused.value.code() in {
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            }
    pubsub.publish("fits")
    assert [each.message.data for each in pubsub.pull(1)] == [b"fits"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(1000),
        PREFACE,
        PREFACE + b"\xff" * 1000,
        PREFACE + SETTINGS + b"\xff\xff\xff\0\0\0\0\0\1" + bytes(10_000),
        PREFACE + SETTINGS + b"\0\0\4\1\4\0\0\0\1\xff\xff\xff\xff",
        PREFACE + SETTINGS + b"\0\0\0\1\4\0\0\0\2",
    ],
)
def test_broken_http2_hurts_nobody_else(target, rest_target, pubsub, data):
    pubsub.create()
    with ExitStack() as open_connections:
        for address in (target, rest_target):
            host, _, port = address.rpartition(":")
            for _ in range(20):
                connection = socket.create_connection((host, int(port)))
                open_connections.enter_context(connection)
                connection.sendall(data)
        pubsub.publish("served")
        assert [each.message.data for each in pubsub.pull(1)] == [b"served"]


class BlackHole:
    """Between a client and a server: forwards everything, until it lets everything vanish."""

    def __init__(self, target):
        self.frozen = False
        self._host, _, port = target.rpartition(":")
        self._port = int(port)

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task] = set()
        return self, f"127.0.0.1:{port}"

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        there_reader, there_writer = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(
                self._forward(reader, there_writer), self._forward(there_reader, writer)
            )
        finally:
            writer.close()
            there_writer.close()

    async def _forward(self, reader, writer):
        while data := await reader.read(65_536):
            if not self.frozen:
                writer.write(data)
                await writer.drain()


async def test_stream_of_a_vanished_client_is_given_up(monkeypatch):
    """Nobody closes the connection: only pings that stay unanswered tell."""
    quick = {"grpc.keepalive_time_ms": 1000, "grpc.http2.ping_timeout_ms": 1000}
    options = tuple((name, quick.get(name, value)) for name, value in server_module._OPTIONS)
    monkeypatch.setattr(server_module, "_OPTIONS", options)
    async with (
        Server() as server,
        BlackHole(server.target) as (hole, target),
        grpc.aio.insecure_channel(server.target) as direct,
        grpc.aio.insecure_channel(target) as channel,
    ):
        topic, subscription = "projects/p/topics/topic", "projects/p/subscriptions/subscription"
        for method, request in (
            ("Publisher/CreateTopic", protos.Topic(name=topic)),
            (
                "Subscriber/CreateSubscription",
                protos.Subscription(name=subscription, topic=topic),
            ),
        ):
            call = direct.unary_unary(f"/google.pubsub.v1.{method}")
            await call(request.SerializeToString(), timeout=30)
        stream = channel.stream_stream("/google.pubsub.v1.Subscriber/StreamingPull")()
        opening = protos.StreamingPullRequest(
            subscription=subscription, stream_ack_deadline_seconds=60
        )
        await stream.write(opening.SerializeToString())
        found = server._runtime.state.subscription(subscription)
        while not server._runtime.consumers(found):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
        hole.frozen = True
        async with asyncio.timeout(60):
            while server._runtime.consumers(found):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.05)
        stream.cancel()


@pytest.mark.parametrize("count", [500, 1000])
async def test_idle_streams_cost_nobody_anything_and_leave_nothing(count):
    async with Server() as server, grpc.aio.insecure_channel(server.target) as channel:

        async def call(method, request):
            data = request.SerializeToString()
            return await channel.unary_unary(f"/google.pubsub.v1.{method}")(data, timeout=60)

        names = [f"projects/p/{kind}/idle" for kind in ("topics", "subscriptions")]
        topic, subscription = names
        await call("Publisher/CreateTopic", protos.Topic(name=topic))
        request = protos.Subscription(name=subscription, topic=topic)
        await call("Subscriber/CreateSubscription", request)
        opening = protos.StreamingPullRequest(
            subscription=subscription, stream_ack_deadline_seconds=60
        ).SerializeToString()
        streams = [
            channel.stream_stream("/google.pubsub.v1.Subscriber/StreamingPull")()
            for _ in range(count)
        ]
        for stream in streams:
            await stream.write(opening)
        reads = [asyncio.ensure_future(stream.read()) for stream in streams]
        runtime = server._runtime
        found = runtime.state.subscription(subscription)
        while runtime.consumers(found) < len(streams):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        message = protos.PubsubMessage(data=b"for one")
        await call("Publisher/Publish", protos.PublishRequest(topic=topic, messages=[message]))
        done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        answers = [protos.StreamingPullResponse.FromString(read.result()) for read in done]
        received = [each for answer in answers for each in answer.received_messages]
        assert [each.message.data for each in received] == [b"for one"]
        ack_ids = [each.ack_id for each in received]
        request = protos.AcknowledgeRequest(subscription=subscription, ack_ids=ack_ids)
        await call("Subscriber/Acknowledge", request)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        while runtime.consumers(found):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        del stream, streams, reads, done
        runtime._tick()
        assert not runtime._listening
        while left_over(runtime):  # noqa: ASYNC110 - the calls end when the loop gets to it
            await asyncio.sleep(0)


def left_over(runtime):
    gc.collect()
    return [
        each
        for each in gc.get_objects()
        if isinstance(each, (Stream, Feed)) and each._runtime is runtime
    ]
