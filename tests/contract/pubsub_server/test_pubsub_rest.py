"""REST/JSON: the official clients' REST transport, plain HTTP, and gcloud where it is installed."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.iam.v1.iam_policy_pb2 import GetIamPolicyRequest
from google.pubsub_v1 import PublisherClient, SchemaServiceClient, SubscriberClient
from google.pubsub_v1.types import Encoding, Schema, SchemaView

from embedded_pubsub import Server

SCHEMA = '{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}'


@pytest.fixture
def kind():
    return "memory"


@pytest.fixture
def client(rest_target):
    opened = []

    def make(kind):
        transport = kind.get_transport_class("rest")(
            host=rest_target, url_scheme="http", credentials=AnonymousCredentials()
        )
        opened.append(transport)
        return kind(transport=transport)

    yield make
    for transport in opened:
        transport.close()


@pytest.fixture
def http(rest_target):
    def call(verb, path, body=None, **headers):
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        url = f"http://{rest_target}{path}"
        request = urllib.request.Request(url, data, headers, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    return call


def test_official_clients_publish_and_consume(client, pubsub):
    publisher, subscriber = client(PublisherClient), client(SubscriberClient)
    publisher.create_topic(request={"name": pubsub.topic, "labels": {"a": "b"}})
    subscriber.create_subscription(
        request={"name": pubsub.subscription, "topic": pubsub.topic, "ack_deadline_seconds": 20}
    )
    body = bytes(range(256))
    messages = [{"data": body, "attributes": {"k": "ü"}}]
    (sent,) = publisher.publish(request={"topic": pubsub.topic, "messages": messages}).message_ids
    (received,) = subscriber.pull(
        subscription=pubsub.subscription, max_messages=5
    ).received_messages
    assert received.message.message_id == sent
    assert received.message.data == body
    assert received.message.attributes["k"] == "ü"
    subscriber.modify_ack_deadline(
        request={
            "subscription": pubsub.subscription,
            "ack_ids": [received.ack_id],
            "ack_deadline_seconds": 30,
        }
    )
    subscriber.acknowledge(subscription=pubsub.subscription, ack_ids=[received.ack_id])
    assert pubsub.pull(now=True) == []


def test_official_clients_manage_resources(client, pubsub):
    publisher, subscriber = client(PublisherClient), client(SubscriberClient)
    pubsub.create()
    project = f"projects/{pubsub.project}"
    other = pubsub.name("topics", "other")
    publisher.create_topic(name=other)
    pages = publisher.list_topics(request={"project": project, "page_size": 1}).pages
    assert [[topic.name for topic in page.topics] for page in pages] == [[other], [pubsub.topic]]
    update = {
        "topic": {"name": pubsub.topic, "labels": {"c": "d"}},
        "update_mask": {"paths": ["labels"]},
    }
    assert publisher.update_topic(request=update).labels == {"c": "d"}
    snapshot = pubsub.name("snapshots", "snapshot")
    subscriber.create_snapshot(name=snapshot, subscription=pubsub.subscription)
    assert list(publisher.list_topic_snapshots(topic=pubsub.topic)) == [snapshot]
    subscriber.seek(request={"subscription": pubsub.subscription, "snapshot": snapshot})
    subscriber.delete_snapshot(snapshot=snapshot)
    publisher.detach_subscription(request={"subscription": pubsub.subscription})
    assert subscriber.get_subscription(subscription=pubsub.subscription).detached
    subscriber.delete_subscription(subscription=pubsub.subscription)
    publisher.delete_topic(topic=pubsub.topic)
    with pytest.raises(exceptions.NotFound, match=pubsub.topic):
        publisher.get_topic(topic=pubsub.topic)


def test_official_clients_manage_schemas_and_policies(client, pubsub):
    schemas, publisher = client(SchemaServiceClient), client(PublisherClient)
    schema = Schema(type_=Schema.Type.AVRO, definition=SCHEMA)
    parent = f"projects/{pubsub.project}"
    created = schemas.create_schema(parent=parent, schema=schema, schema_id="schema")
    assert created.type_ == Schema.Type.AVRO
    assert schemas.get_schema(request={"name": created.name, "view": SchemaView.BASIC}).name
    committed = schemas.commit_schema(name=created.name, schema=schema)
    listed = [each.revision_id for each in schemas.list_schema_revisions(name=created.name)]
    assert listed == [committed.revision_id, created.revision_id]
    schemas.validate_message(
        request={
            "parent": parent,
            "name": created.name,
            "encoding": Encoding.JSON,
            "message": b'{"x": 1}',
        }
    )
    policy = {"bindings": [{"role": "roles/viewer", "members": ["allUsers"]}]}
    kept = publisher.set_iam_policy(request={"resource": created.name, "policy": policy})
    request = GetIamPolicyRequest(resource=created.name)
    request.options.requested_policy_version = 1
    assert publisher.get_iam_policy(request=request) == kept


def test_method_may_be_in_a_header(http, pubsub):
    pubsub.create()
    path = f"/v1/{pubsub.topic}"
    body = {"topic": {"labels": {"a": "b"}}, "updateMask": "labels"}
    assert http("POST", path, body)[0] == 404
    overridden = {"X-HTTP-Method-Override": "PATCH"}
    assert http("POST", path, body, **overridden)[1]["labels"] == {"a": "b"}


@pytest.mark.parametrize("mask", ["ackDeadlineSeconds", "ack_deadline_seconds"])
def test_mask_may_be_in_either_case(http, pubsub, mask):
    pubsub.create()
    body = {"subscription": {"ackDeadlineSeconds": 99}, "updateMask": mask}
    status, updated = http("PATCH", f"/v1/{pubsub.subscription}", body)
    assert (status, updated["ackDeadlineSeconds"]) == (200, 99)


@pytest.mark.parametrize("data", ["hello, world", "%%%", "eA==\n", "eA==="])
def test_what_is_no_base64_is_refused(http, pubsub, data):
    pubsub.create()
    status, answer = http("POST", f"/v1/{pubsub.topic}:publish", {"messages": [{"data": data}]})
    assert status == 400
    assert "data" in answer["error"]["message"]


def test_query_parameter_may_be_given_once(http, pubsub):
    status, answer = http("GET", f"/v1/projects/{pubsub.project}/topics?pageSize=1&pageSize=2")
    assert status == 400
    assert "pageSize" in answer["error"]["message"]


def test_bytes_are_base64(http, pubsub):
    pubsub.create()
    data = base64.b64encode(b"\xff\x00").decode()
    status, answer = http("POST", f"/v1/{pubsub.topic}:publish", {"messages": [{"data": data}]})
    assert (status, len(answer["messageIds"])) == (200, 1)
    _, answer = http("POST", f"/v1/{pubsub.subscription}:pull", {"maxMessages": 1})
    assert answer["receivedMessages"][0]["message"]["data"] == data


@pytest.mark.parametrize(
    ("verb", "path", "body", "code", "status"),
    [
        ("GET", "/v1/projects/p/topics/none-such", None, 404, "NOT_FOUND"),
        ("GET", "/v1/projects/p/topics/a%20b", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/projects/p/nothing", None, 404, "NOT_FOUND"),
        ("GET", "/v1/projects/p/topics?pageSize=many", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/projects/p/topics?noSuch=1", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/projects/p/topics/ttt:getIamPolicy?a=1&a.b=2", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/elsewhere", None, 404, "NOT_FOUND"),
        ("POST", "/", b"", 405, "NOT_FOUND"),
        ("PUT", "/v1/projects/p/topics/topic", b"{", 400, "INVALID_ARGUMENT"),
        ("PUT", "/v1/projects/p/topics/topic", b"\xff", 400, "INVALID_ARGUMENT"),
        ("PUT", "/v1/projects/p/topics/topic", b"[]", 400, "INVALID_ARGUMENT"),
        ("PUT", "/v1/projects/p/topics/topic", b"[" * 100_000, 400, "INVALID_ARGUMENT"),
        ("PUT", "/v1/projects/p/topics/topic", {"noSuch": 1}, 400, "INVALID_ARGUMENT"),
        ("PUT", "/v1/projects/p/topics/topic", {"labels": 1}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/projects/p/topics/topic:nothing", {}, 404, "NOT_FOUND"),
    ],
)
def test_errors_are_googles_status(http, verb, path, body, code, status):
    got, answer = http(verb, path, body)
    assert got == code
    error = answer["error"]
    assert (error["code"], error["status"]) == (code, status)
    assert error["message"]


def test_existing_topic_is_a_conflict(http, pubsub):
    assert http("PUT", f"/v1/{pubsub.topic}", {})[0] == 200
    status, answer = http("PUT", f"/v1/{pubsub.topic}", {})
    assert (status, answer["error"]["status"]) == (409, "ALREADY_EXISTS")


def test_stale_acks_of_exactly_once_say_which(http, pubsub):
    pubsub.create(enable_exactly_once_delivery=True)
    status, answer = http("POST", f"/v1/{pubsub.subscription}:acknowledge", {"ackIds": ["1-2-3"]})
    assert status == 400
    (detail,) = answer["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert detail["metadata"] == {"1-2-3": "PERMANENT_FAILURE_INVALID_ACK_ID"}


def test_large_body_is_told_the_limit(http, pubsub):
    pubsub.create()
    data = base64.b64encode(bytes(10_000_001)).decode()
    status, answer = http("POST", f"/v1/{pubsub.topic}:publish", {"messages": [{"data": data}]})
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "10000000" in answer["error"]["message"]


def test_pull_that_is_given_up_leases_nothing(rest_target, http, pubsub):
    def consumers():
        _, document = http("GET", "/", Accept="application/json")
        return {s["subscription"]: s["consumers"] for s in document["subscriptions"]}

    pubsub.create()
    host, _, port = rest_target.rpartition(":")
    body = b'{"maxMessages": 1}'
    head = f"POST /v1/{pubsub.subscription}:pull HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        while not consumers()[pubsub.subscription]:
            pass
    deadline = time.monotonic() + 10
    while consumers()[pubsub.subscription] and time.monotonic() < deadline:
        pass
    assert consumers()[pubsub.subscription] == 0


def test_page_shows_what_the_server_has(rest_target, http, pubsub):
    pubsub.create(enable_message_ordering=True)
    pubsub.publish("a", "b")
    pubsub.pull(1)
    _, document = http("GET", "/", Accept="application/json")
    (shown,) = (s for s in document["subscriptions"] if s["subscription"] == pubsub.subscription)
    assert (shown["backlog"], shown["leases"], shown["topic"]) == (2, 1, pubsub.topic)
    assert shown["consumers"] == 0
    assert shown["oldest_unacked_seconds"] >= 0
    with urllib.request.urlopen(f"http://{rest_target}/", timeout=30) as answer:
        page = answer.read().decode()
    assert f"<h2>projects/{pubsub.project}</h2>" in page
    assert f'<span title="{pubsub.subscription}">subscription</span><i>in order</i>' in page
    assert "oldest unacked" in page


async def test_rest_is_served_only_when_asked_for():
    async with Server() as server:
        assert server.rest_target is None
    async with Server(rest_port=0) as server:
        port = int(server.rest_target.rpartition(":")[2])
        with pytest.raises(OSError, match="can't listen"):
            await Server(rest_port=port).start()
    async with Server(rest_port=port) as server:
        assert server.rest_target == f"127.0.0.1:{port}"


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud_speaks_to_it(rest_target, pubsub, tmp_path):
    settings = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{rest_target}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": pubsub.project,
        "CLOUDSDK_CONFIG": str(tmp_path),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }

    def gcloud(*arguments):
        command = ["gcloud", "pubsub", *arguments, "--format=json"]
        done = subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    gcloud("topics", "create", "topic")
    gcloud("subscriptions", "create", "subscription", "--topic=topic", "--ack-deadline=20")
    gcloud("topics", "publish", "topic", "--message=hello", "--attribute=k=v")
    (received,) = gcloud("subscriptions", "pull", "subscription", "--auto-ack")
    assert base64.b64decode(received["message"]["data"]) == b"hello"
    (listed,) = gcloud("subscriptions", "list")
    assert listed["ackDeadlineSeconds"] == 20
