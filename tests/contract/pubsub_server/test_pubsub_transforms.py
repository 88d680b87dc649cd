"""Single message transforms, by the official clients."""

import base64
import json
import urllib.error
import urllib.request
import zlib

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1.types import PubsubMessage
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import PublisherClient as UnbatchedPublisher
from google.pubsub_v1 import SchemaServiceClient
from google.pubsub_v1.types import Compression

from embedded_pubsub import javascript

pytest.importorskip("py_mini_racer", reason="the extra `transforms` is not installed")

REDACT = """
function redact(message, metadata) {
  const data = JSON.parse(message.data);
  if (data.drop) return null;
  if (data.fail) throw new Error("asked to fail");
  delete data.ssn;
  message.data = JSON.stringify(data);
  message.attributes.by = "redact";
  return message;
}
"""


def udf(code=REDACT, name="redact", **settings):
    return {"javascript_udf": {"function_name": name, "code": code}, **settings}


def returning(expression):
    return udf(f"function f(message, metadata) {{ return {expression}; }}", "f")


@pytest.fixture
def kind():
    return "memory"


@pytest.fixture
def topic_with(pubsub):
    def create(*transforms):
        request = {"name": pubsub.topic, "message_transforms": list(transforms)}
        pubsub.publisher.create_topic(request=request)
        pubsub.subscribe(pubsub.subscription)

    return create


class TestTopics:
    @pytest.mark.parametrize("kind", ["memory", "durable"])
    def test_message_is_kept_as_transformed(self, topic_with, pubsub):
        topic_with(udf())
        (message_id,) = pubsub.publish('{"ssn": 1, "a": 2}', k="v")
        (received,) = pubsub.pull(1)
        assert json.loads(received.message.data) == {"a": 2}
        assert dict(received.message.attributes) == {"k": "v", "by": "redact"}
        assert received.message.message_id == message_id

    def test_null_filters_and_still_gives_an_id(self, topic_with, pubsub):
        topic_with(udf())
        ids = pubsub.publish('{"a": 1}', '{"drop": 1}', '{"a": 2}')
        received = pubsub.pull(2)
        assert len(set(ids)) == 3
        assert [each.message.message_id for each in received] == [ids[0], ids[2]]
        assert pubsub.publish('{"drop": 1}')
        assert pubsub.pull(now=True) == received[:0]

    @pytest.mark.parametrize("bad", ['{"fail": 1}', "no JSON"])
    def test_one_failure_fails_the_publish(self, topic_with, pubsub, bad):
        topic_with(udf())
        with pytest.raises(exceptions.InvalidArgument, match="Error"):
            pubsub.publish('{"a": 1}', bad)
        assert pubsub.pull(now=True) == []

    def test_transforms_run_in_their_order_unless_disabled(self, topic_with, pubsub):
        def append(name, **settings):
            code = f"function {name}(m) {{ m.data += '{name}'; return m; }}"
            return udf(code, name, **settings)

        topic_with(append("a"), append("b", disabled=True), append("c"))
        pubsub.publish("-")
        assert [each.message.data for each in pubsub.pull(1)] == [b"-ac"]

    def test_attributes_are_kept_removed_or_replaced(self, pubsub):
        for number, (expression, expected) in enumerate(
            [
                ("{data: 'x'}", {"k": "v"}),
                ("{data: 'x', attributes: {}}", {}),
                ("{data: 'x', attributes: {n: 'ü'}}", {"n": "ü"}),
            ]
        ):
            topic = pubsub.name("topics", f"topic-{number}")
            subscription = pubsub.name("subscriptions", f"subscription-{number}")
            transforms = [returning(expression)]
            pubsub.publisher.create_topic(request={"name": topic, "message_transforms": transforms})
            pubsub.subscribe(subscription, topic=topic)
            pubsub.publish("y", topic=topic, k="v")
            (received,) = pubsub.pull(1, subscription)
            assert dict(received.message.attributes) == expected

    @pytest.mark.parametrize(
        "expression",
        [
            "undefined", "1", "'text'", "[]", "{}", "{data: 1}", "{data: 'x', attributes: 1}",
            "{data: 'x', attributes: {k: 1}}", "{data: '\\ud800'}", "{data: '', attributes: {}}",
            "{data: 'x', attributes: {goog: 'v'}}", "{data: 'x', attributes: {'': 'v'}}",
        ],
    )  # fmt: skip
    def test_what_is_no_message_is_refused(self, topic_with, pubsub, expression):
        topic_with(returning(expression))
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.publish("x")

    def test_data_that_is_not_text_is_refused(self, topic_with, pubsub):
        topic_with(returning("message"))
        request = {"topic": pubsub.topic, "messages": [{"data": b"\xff"}]}
        with pytest.raises(exceptions.InvalidArgument, match="UTF-8"):
            UnbatchedPublisher.publish(pubsub.publisher, request=request)

    def test_endless_function_is_stopped_and_the_next_message_served(self, topic_with, pubsub):
        code = """
            let busy = false;
            function f(m) {
              if (busy) throw new Error("the last message left me half done");
              busy = true;
              while (m.data == "loop");
              busy = false;
              return m;
            }
        """
        topic_with(udf(code, "f"))
        with pytest.raises(exceptions.InvalidArgument, match=r"0\.5 s"):
            pubsub.publish("loop")
        pubsub.publish("fine")
        assert [each.message.data for each in pubsub.pull(1)] == [b"fine"]

    def test_greedy_function_is_stopped_and_the_next_message_served(
        self, topic_with, pubsub, monkeypatch
    ):
        monkeypatch.setattr(javascript, "MAX_HEAP_BYTES", 16 * 1024 * 1024)
        monkeypatch.setattr(javascript, "MAX_SECONDS", 60)
        code = (
            "const all = []; function f(m) { "
            "while (m.data == 'hoard') all.push(new Array(1e6).fill(all.length)); return m; }"
        )
        topic_with(udf(code, "f"))
        with pytest.raises(exceptions.InvalidArgument, match="took more than"):
            pubsub.publish("hoard")
        pubsub.publish("fine")
        assert [each.message.data for each in pubsub.pull(1)] == [b"fine"]

    def test_transformed_message_must_be_of_the_schema(self, pubsub):
        code = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}'
        transport = SchemaServiceClient.get_transport_class("grpc")
        channel = pubsub.publisher.transport.grpc_channel
        created = SchemaServiceClient(transport=transport(channel=channel)).create_schema(
            parent=f"projects/{pubsub.project}",
            schema={"type_": "AVRO", "definition": code},
            schema_id="schema",
        )
        topic = {
            "name": pubsub.topic,
            "schema_settings": {"schema": created.name, "encoding": "JSON"},
            "message_transforms": [udf()],
        }
        pubsub.publisher.create_topic(request=topic)
        with pytest.raises(exceptions.InvalidArgument, match="schema"):
            pubsub.publish('{"b": 1}')
        assert pubsub.publish('{"a": 1, "ssn": 2}')

    def test_update_replaces_transforms(self, topic_with, pubsub):
        topic_with(udf())
        topic = {"name": pubsub.topic, "message_transforms": [returning("{data: 'new'}")]}
        mask = FieldMask(paths=["message_transforms"])
        pubsub.publisher.update_topic(request={"topic": topic, "update_mask": mask})
        pubsub.publish("x")
        assert [each.message.data for each in pubsub.pull(1)] == [b"new"]


class TestSubscriptions:
    def test_only_its_own_subscription_is_transformed(self, pubsub):
        pubsub.create(message_transforms=[udf()])
        other = pubsub.name("subscriptions", "other")
        pubsub.subscribe(other)
        body = '{"ssn": 1, "a": 2}'
        pubsub.publish(body)
        (received,) = pubsub.pull(1)
        assert json.loads(received.message.data) == {"a": 2}
        assert [each.message.data.decode() for each in pubsub.pull(1, other)] == [body]
        pubsub.ack(received)
        assert pubsub.pull(now=True) == []

    def test_metadata_is_shown(self, pubsub):
        expression = "{data: JSON.stringify(metadata)}"
        pubsub.create(message_transforms=[returning(expression)], enable_message_ordering=True)
        (message_id,) = pubsub.publish("x", key="key")
        (received,) = pubsub.pull(1)
        published = received.message.publish_time.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert json.loads(received.message.data) == {
            "message_id": message_id,
            "ordering_key": "key",
            "publish_time": published,
        }
        assert received.message.ordering_key == "key"

    def test_filtered_messages_are_acknowledged(self, pubsub, rest_target):
        pubsub.create(message_transforms=[udf()])
        pubsub.publish('{"drop": 1}', '{"a": 1}')
        (received,) = pubsub.pull(1)
        assert json.loads(received.message.data) == {"a": 1}
        page = urllib.request.Request(
            f"http://{rest_target}/", headers={"Accept": "application/json"}
        )
        with urllib.request.urlopen(page, timeout=30) as answer:
            shown = json.loads(answer.read())["subscriptions"]
        (backlog,) = (s["backlog"] for s in shown if s["subscription"] == pubsub.subscription)
        assert backlog == 1
        pubsub.nack(received)
        (again,) = pubsub.pull(1)
        assert again.message.message_id == received.message.message_id
        assert pubsub.pull(now=True) == []

    def test_failures_go_to_the_dead_letters_as_published(self, pubsub):
        dead, dead_subscription = (
            pubsub.name("topics", "dead"),
            pubsub.name("subscriptions", "dead"),
        )
        pubsub.publisher.create_topic(name=dead)
        pubsub.subscribe(dead_subscription, topic=dead)
        pubsub.create(
            message_transforms=[udf()],
            dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5},
            retry_policy={"minimum_backoff": {}, "maximum_backoff": {}},
        )
        pubsub.publish('{"fail": 1}', '{"a": 1}')
        (received,) = pubsub.pull(1)
        assert json.loads(received.message.data) == {"a": 1}
        stream = pubsub.subscriber.subscribe(pubsub.subscription, lambda message: message.ack())
        (failed,) = pubsub.pull(1, dead_subscription)
        stream.cancel()
        stream.result()
        assert json.loads(failed.message.data) == {"fail": 1}
        assert failed.message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"

    def test_failure_holds_its_ordering_key(self, pubsub):
        code = """
            let seen = 0;
            function f(m) { if (m.data == "1" && seen++ < 2) throw new Error("not yet"); return m; }
        """
        pubsub.create(message_transforms=[udf(code, "f")], enable_message_ordering=True)
        pubsub.publish(*"0123", key="key")
        order = []
        while len(order) < 4:
            received = pubsub.pull(1)
            order += [each.message.data for each in received]
            pubsub.ack(*received)
        assert order == [b"0", b"1", b"2", b"3"]

    def test_stream_delivers_transformed_messages(self, pubsub):
        pubsub.create(message_transforms=[returning("{data: message.data + '!'}")])
        pubsub.publish(*(str(n) for n in range(100)))
        received: list[PubsubMessage] = []

        def receive(message):
            received.append(message.data)
            message.ack()
            if len(received) == 100:
                stream.cancel()

        stream = pubsub.subscriber.subscribe(pubsub.subscription, receive)
        stream.result(timeout=60)
        assert sorted(received) == sorted(b"%d!" % n for n in range(100))

    def test_filter_is_applied_to_the_published_message(self, pubsub):
        expression = "{data: message.data, attributes: {}}"
        pubsub.create(message_transforms=[returning(expression)], filter="attributes:k")
        pubsub.publish("kept", k="v")
        pubsub.publish("not matched")
        assert [each.message.data for each in pubsub.pull(1)] == [b"kept"]
        assert pubsub.pull(now=True) == []


class TestCompression:
    def test_data_is_compressed_and_decompressed(self, topic_with, pubsub):
        def zlib_transform(mode):
            return {
                "compression": {
                    "compression_algorithm": Compression.CompressionAlgorithm.ZLIB,
                    "compression_mode": mode,
                }
            }

        topic_with(zlib_transform(Compression.CompressionMode.COMPRESS))
        plain = pubsub.name("subscriptions", "plain")
        decompress = zlib_transform(Compression.CompressionMode.DECOMPRESS)
        pubsub.subscribe(plain, message_transforms=[decompress])
        pubsub.publish("text " * 100)
        (compressed,) = pubsub.pull(1)
        assert zlib.decompress(compressed.message.data) == b"text " * 100
        assert [each.message.data for each in pubsub.pull(1, plain)] == [b"text " * 100]


BAD = {
    "no transform": ({}, exceptions.InvalidArgument),
    "no name": (udf(name=""), exceptions.InvalidArgument),
    "no function's name": (udf(name="a-b"), exceptions.InvalidArgument),
    "no code": (udf(code=""), exceptions.InvalidArgument),
    "another name": (udf(name="other"), exceptions.InvalidArgument),
    "no JavaScript": (udf(code="function redact( {"), exceptions.InvalidArgument),
    "endless": (udf(code="while (true);"), exceptions.InvalidArgument),
    "too long": (udf(code=REDACT + "/" * 20_000), exceptions.InvalidArgument),
    "no algorithm": ({"compression": {"compression_mode": "COMPRESS"}}, exceptions.InvalidArgument),
    "no mode": ({"compression": {"compression_algorithm": "ZLIB"}}, exceptions.InvalidArgument),
    "zstd": (
        {"compression": {"compression_mode": "COMPRESS", "compression_algorithm": "ZSTD"}},
        exceptions.MethodNotImplemented,
    ),
    "outside": ({"ai_inference": {"endpoint": "e"}}, exceptions.MethodNotImplemented),
}


@pytest.mark.parametrize(("transform", "error"), BAD.values(), ids=BAD.keys())
def test_bad_transforms_are_refused(pubsub, transform, error):
    with pytest.raises(error):
        pubsub.publisher.create_topic(
            request={"name": pubsub.topic, "message_transforms": [transform]}
        )
    pubsub.create()
    with pytest.raises(error):
        pubsub.subscribe(pubsub.name("subscriptions", "other"), message_transforms=[transform])


@pytest.mark.parametrize("names", ["aa", "abcdef"])
def test_names_are_unique_and_at_most_five(pubsub, names):
    transforms = [udf(f"function {name}(m) {{ return m; }}", name) for name in names]
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publisher.create_topic(
            request={"name": pubsub.topic, "message_transforms": transforms}
        )


class TestTrying:
    """The two REST methods that gcloud's `message-transforms` commands call."""

    @pytest.fixture
    def post(self, rest_target):
        def call(path, body):
            data = json.dumps(body).encode()
            request = urllib.request.Request(f"http://{rest_target}/v1/{path}", data)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.loads(error.read())

        return call

    def test_validates_one(self, post):
        transform = {"javascriptUdf": {"functionName": "redact", "code": REDACT}}
        call = "projects/p:validateMessageTransform"
        assert post(call, {"messageTransform": transform}) == (200, {})
        transform["javascriptUdf"]["functionName"] = "other"
        status, answer = post(call, {"messageTransform": transform})
        assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert "other" in answer["error"]["message"]

    def test_shows_each_step(self, post):
        def step(name, expression):
            code = f"function {name}(m) {{ return {expression}; }}"
            return {"javascriptUdf": {"functionName": name, "code": code}}

        def tried(*transforms):
            transforms = {"messageTransforms": list(transforms)}
            message = {"data": base64.b64encode(b"x").decode()}
            body = {"message": message, "messageTransforms": transforms}
            status, answer = post("projects/p:testMessageTransforms", body)
            assert status == 200
            return answer["transformedMessages"]

        changed = step("a", "{data: m.data + 'y'}")
        first, second = tried(changed, step("b", "null"), step("c", "m"))
        assert base64.b64decode(first["transformedMessage"]["data"]) == b"xy"
        assert second == {"filteredMessage": {}}
        (failed,) = tried(step("d", "noSuch"), changed | {"disabled": True})
        assert failed["failedMessage"]["error"]["code"] == 3
        assert "noSuch" in failed["failedMessage"]["error"]["message"]

    def test_tries_those_of_a_topic_or_a_subscription(self, post, pubsub):
        pubsub.create(message_transforms=[returning("{data: 'subscription'}")])
        for given in ({"topic": pubsub.topic}, {"subscription": pubsub.subscription}):
            body = {"message": {"data": ""}, **given}
            status, answer = post(f"projects/{pubsub.project}:testMessageTransforms", body)
            assert status == 200
            assert len(answer.get("transformedMessages", [])) == len(given.keys() - {"topic"})
        status, _ = post(f"projects/{pubsub.project}:testMessageTransforms", {"message": {}})
        assert status == 400
