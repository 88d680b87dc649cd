"""Clients that are broken, silent or many: the server refuses them and serves the others."""

import asyncio
import gc
import socket
from contextlib import ExitStack

import grpc
import grpc.aio
import pytest

from embedded_pubsub import Server, protos
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
        while left_over():  # noqa: ASYNC110 - the calls end when the loop gets to it
            await asyncio.sleep(0)


def left_over():
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, (Stream, Feed))]
