"""Whatever comes over the wire is answered or refused: JSON, protobufs, streams and frames."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from contextlib import suppress

import grpc
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from embedded_pubsub import Server, protos
from embedded_pubsub.errors import InvalidArgumentError, PubSubError
from embedded_pubsub.methods import methods, rest_methods
from embedded_pubsub.rest import _Binding
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.store import MemoryStore
from embedded_pubsub.streaming import Stream
from embedded_pubsub.testing import ThreadedServer
from tests.support.fuzz import fuzzed

TOPIC, SUBSCRIPTION = "projects/p/topics/topic", "projects/p/subscriptions/subscription"
IDLE = Runtime(MemoryStore(), lambda: 0.0)
SERVED = [*methods(IDLE), *rest_methods(IDLE)]
BINDINGS = [_Binding(method, http) for method in SERVED for http in method.http]
CODES = {
    "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED", "ABORTED", "UNIMPLEMENTED",
}  # fmt: skip


def field_names(descriptor, depth=0):
    """Give all names that a request's JSON may have, so that fuzzing gets beyond the first key."""
    for field in descriptor.fields:
        yield from (field.name, field.json_name)
        if field.message_type is not None and depth < 3:
            yield from field_names(field.message_type, depth + 1)


NAMES = sorted({name for method in SERVED for name in field_names(method.request.DESCRIPTOR)})
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from(["", "1s", "-1s", "1e400s", "2020-01-01T00:00:00Z", "a,b", "eA==", TOPIC])
)  # fmt: skip
DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
QUERIES = st.lists(
    st.tuples(st.sampled_from([*NAMES, "updateMask", "a.b", "a..b", "$alt"]), st.text(max_size=9)),
    max_size=4,
)


@fuzzed(300)
@given(st.sampled_from(BINDINGS), DOCUMENTS | st.text(max_size=9), QUERIES, st.booleans())
def test_any_json_is_a_request_or_refused(binding, document, query, whole):
    body = json.dumps(document).encode() if whole else str(document).encode("utf-8", "replace")
    with suppress(InvalidArgumentError):
        request = binding.request(TOPIC, query, body)
        assert isinstance(request, binding.method.request)


@fuzzed(300)
@given(st.sampled_from(SERVED), st.binary(max_size=60))
def test_any_bytes_are_a_request_or_refused(method, data):
    """What protobuf takes, a method answers or refuses, and refuses with a code of the API."""
    try:
        request = method.request.FromString(data)
    except DecodeError:
        return
    if method.name == "Pull":
        request.return_immediately = True

    async def run():
        runtime = Runtime(MemoryStore(), lambda: 1e9)
        call = {each.name: each.call for each in [*methods(runtime), *rest_methods(runtime)]}
        code = "INVALID_ARGUMENT"
        try:
            await call[method.name](request, 0.001)
        except PubSubError as error:
            code = error.code
        await runtime.close()
        assert code in CODES

    asyncio.run(run())


IDS = st.sampled_from(["", "1-2-3", "bad", "1-2", "-", "9" * 40, "1-2-é"])
SECONDS = st.sampled_from([0, 1, 10, 600, 601, -1, 2**31 - 1])
REQUESTS = st.builds(
    protos.StreamingPullRequest,
    subscription=st.sampled_from(["", "", SUBSCRIPTION, "bad"]),
    ack_ids=st.lists(IDS, max_size=3),
    modify_deadline_ack_ids=st.lists(IDS, max_size=2),
    modify_deadline_seconds=st.lists(SECONDS, max_size=2),
    stream_ack_deadline_seconds=SECONDS,
    client_id=st.text(max_size=5),
    max_outstanding_messages=st.sampled_from([0, 0, 0, 1, -1, 2**63 - 1]),
    max_outstanding_bytes=st.sampled_from([0, 0, 0, 1, -1]),
)


class Written:
    """The part of a gRPC context that a stream uses."""

    def __init__(self):
        self.responses = []

    async def write(self, response):
        self.responses.append(protos.StreamingPullResponse.FromString(response))


@fuzzed(150)
@given(st.booleans(), st.lists(REQUESTS, max_size=5), st.booleans(), st.booleans())
def test_any_stream_ends_or_is_refused(opens, requests, exactly_once, ordered):
    async def run():
        runtime = Runtime(MemoryStore(), lambda: 1e9)
        call = {method.name: method.call for method in methods(runtime)}
        await call["CreateTopic"](protos.Topic(name=TOPIC), None)
        subscription = protos.Subscription(
            name=SUBSCRIPTION,
            topic=TOPIC,
            enable_exactly_once_delivery=exactly_once,
            enable_message_ordering=ordered,
        )
        await call["CreateSubscription"](subscription, None)
        first = protos.StreamingPullRequest(
            subscription=SUBSCRIPTION, stream_ack_deadline_seconds=10
        )

        async def rest():
            for request in requests[not opens :]:
                yield request
                await asyncio.sleep(0)

        with suppress(PubSubError):
            opening = first if opens or not requests else requests[0]
            await Stream(runtime, opening).run(rest(), Written())
        assert runtime.consumers(runtime.state.subscription(SUBSCRIPTION)) == 0
        await runtime.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def server():
    with ThreadedServer(Server(rest_port=0)) as running:
        yield running.server


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
FRAMES = st.builds(
    lambda length, kind, flags, stream, body: (
        (len(body) if length is None else length).to_bytes(3, "big")
        + bytes([kind, flags])
        + stream.to_bytes(4, "big")
        + body
    ),
    st.none() | st.none() | st.integers(0, 2**24 - 1),
    st.integers(0, 12),
    st.integers(0, 255),
    st.sampled_from([0, 1, 3, 2, 2**31 - 1, 2**32 - 1]),
    st.binary(max_size=40),
)


@fuzzed(60)
@given(st.sampled_from([b"", PREFACE, PREFACE]), st.lists(FRAMES, max_size=6), st.booleans())
def test_any_frames_leave_the_server_serving(server, preface, frames, half_open):
    """A client that sends frames at random, and one that stops in the middle and stays."""
    for target in (server.target, server.rest_target):
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            with suppress(ConnectionError):
                connection.sendall(preface + b"".join(frames))
                if half_open:
                    connection.shutdown(socket.SHUT_WR)
            assert_serves(server)


def assert_serves(server):
    with urllib.request.urlopen(f"http://{server.rest_target}/", timeout=30) as answer:
        assert answer.status == 200
    with grpc.insecure_channel(server.target) as channel:
        request = protos.ListTopicsRequest(project="projects/p").SerializeToString()
        assert channel.unary_unary("/google.pubsub.v1.Publisher/ListTopics")(request) == b""


@fuzzed(60)
@given(
    st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"]),
    st.sampled_from([TOPIC, SUBSCRIPTION, "projects/p", f"{TOPIC}:publish", "projects/p/schemas"]),
    st.binary(max_size=40),
)
def test_any_http_request_gets_googles_kind_of_answer(server, verb, path, body):
    url = f"http://{server.rest_target}/v1/{path}-none"
    try:
        request = urllib.request.Request(url, body, method=verb)
        with urllib.request.urlopen(request, timeout=30) as answer:
            status, document = answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            status, document = error.code, json.loads(error.read())
    assert document.get("error", {"code": 200})["code"] == status
    assert status < 500 or status == 501
