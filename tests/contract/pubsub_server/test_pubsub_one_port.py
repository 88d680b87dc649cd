"""gRPC and REST on one port, as users of Google's emulator know it."""

import json
import signal
import socket
import time
import urllib.request

import pytest

from embedded_pubsub import protos
from tests.support.pubsub_process import SUBSCRIPTION, TOPIC, Raw, process


@pytest.fixture
def kind():
    return "memory"


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def child(port):
    with process("--port", port, "--rest-port", port, "--in-memory") as running:
        address = f"127.0.0.1:{port}"
        announced = json.loads(running.stdout.readline())
        assert announced == {"grpc": address, "rest": address}
        yield running


def http(port, path, body=None, method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.usefixtures("child")
def test_both_see_the_same(port):
    assert http(port, f"/v1/{TOPIC}", b"{}", "PUT")["name"] == TOPIC
    with Raw(f"127.0.0.1:{port}") as call:
        call("Subscriber/CreateSubscription", protos.Subscription(name=SUBSCRIPTION, topic=TOPIC))
        large = "x" * 3_000_000
        call.publish(large)
        (received,) = call.pull(1)
        assert received.message.data == large.encode()
    listed = http(port, "/v1/projects/p/subscriptions")
    assert [each["name"] for each in listed["subscriptions"]] == [SUBSCRIPTION]


@pytest.mark.usefixtures("child")
def test_slow_reader_loses_nothing(port):
    http(port, f"/v1/{TOPIC}", b"{}", "PUT")
    with Raw(f"127.0.0.1:{port}") as call:
        call("Subscriber/CreateSubscription", protos.Subscription(name=SUBSCRIPTION, topic=TOPIC))
        for _ in range(3):
            call.publish("y" * 4_000_000)
    body = json.dumps({"maxMessages": 3, "returnImmediately": True}).encode()
    head = f"POST /v1/{SUBSCRIPTION}:pull HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.5)
        answer = b"".join(iter(lambda: slow.recv(1 << 16), b""))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["receivedMessages"]


@pytest.mark.usefixtures("child")
@pytest.mark.parametrize("said", [b"", b"P", b"PRI * H", b"\x16\x03\x01", b"nonsense\r\n\r\n"])
def test_broken_connections_do_no_harm(port, said):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as broken:
            broken.sendall(said)
    assert http(port, "/v1/projects/p/topics") == {}


def test_ends_quickly_with_connections_open(child, port):
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30),
        Raw(f"127.0.0.1:{port}") as call,
    ):
        call("Publisher/CreateTopic", protos.Topic(name=TOPIC))
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=10)
    assert (child.returncode, out, err) == (0, "", "")


@pytest.mark.usefixtures("child")
def test_taken_port_is_named(port):
    with process("--port", port, "--rest-port", port, "--in-memory") as second:
        _, err = second.communicate(timeout=30)
    assert second.returncode == 2
    assert str(port) in err
    assert "Traceback" not in err
