"""The server as a process of its own: what outlives a kill, and how it starts and stops."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import pytest

from embedded_pubsub import DataDirError, Server, protos
from tests.support.pubsub_process import ROOT, SUBSCRIPTION, TOPIC, Raw, process, ready


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_says_when_it_is_ready_and_ends_clean(number):
    with process("--in-memory") as child:
        announced = json.loads(child.stdout.readline())
        assert announced["rest"] is None
        with Raw(announced["grpc"]) as call:
            call.create()
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
        assert (child.returncode, out, err) == (0, "", "")


def test_process_of_its_own_loads_no_clients():
    program = "import embedded_pubsub.__main__, sys; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "google.pubsub_v1.types" in loaded
    assert not [name for name in loaded if name.startswith("google.pubsub_v1.services")]


def test_clients_can_be_loaded_beside_the_server():
    program = (
        "import embedded_pubsub; embedded_pubsub.Server; import google.pubsub_v1 as p; p.types"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_rest_is_announced():
    with process("--in-memory", "--rest-port", "0") as child:
        announced = json.loads(child.stdout.readline())
        with urllib.request.urlopen(f"http://{announced['rest']}/", timeout=30) as answer:
            assert answer.status == 200
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=30)
        assert (child.returncode, out, err) == (0, "", "")


def test_needs_a_word_on_where_to_keep_things():
    with process() as child:
        _, err = child.communicate(timeout=30)
    assert child.returncode == 2
    assert "--in-memory" in err


def test_other_than_loopback_needs_a_flag():
    with process("--in-memory", "--host", "0.0.0.0") as child:
        _, err = child.communicate(timeout=30)
    assert child.returncode == 2
    assert "not loopback" in err
    assert "Traceback" not in err


def test_killed_server_keeps_what_it_answered_for(tmp_path):
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        call.create()
        call.publish("acked", "leased", "never pulled")
        acked, leased = call.pull(2)
        call.ack([acked])
        child.kill()
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        again = call.pull(10)
        assert [each.message.data for each in again] == [b"leased", b"never pulled"]
        assert again[0].message.message_id == leased.message.message_id
        assert again[0].message.publish_time == leased.message.publish_time
        new = call.publish("new")
        assert new[0] not in {acked.message.message_id, leased.message.message_id}


def test_kill_under_load_loses_no_acknowledged_publish(tmp_path):
    answered = []

    def load(call):
        try:
            for n in range(100_000):
                call.publish(f"{n}-a", f"{n}-b")
                answered.append(n)
        except grpc.RpcError:
            return

    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        call.create()
        publisher = threading.Thread(target=load, args=(call,))
        publisher.start()
        while len(answered) < 50:
            time.sleep(0.001)
        child.kill()
        publisher.join(60)
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        received = []
        while batch := call.pull(1000):
            received += batch
        bodies = [each.message.data.decode() for each in received]
    assert len(bodies) == len(set(bodies))
    assert {f"{n}-{half}" for n in answered for half in "ab"} <= set(bodies)


def test_acked_message_stays_acked_on_an_exactly_once_subscription(tmp_path):
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        call.create(enable_exactly_once_delivery=True)
        call.publish("1", "2")
        received = call.pull(2)
        call.ack(received[:1])
        child.kill()
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        with pytest.raises(grpc.RpcError, match="acknowledgement ids"):
            call.ack(received[1:])
        assert [each.message.data for each in call.pull(2)] == [b"2"]


def test_ack_from_before_a_seek_settles_nothing_after_a_kill(tmp_path):
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        call.create()
        call.publish("1", "2")
        received = call.pull(2)
        request = protos.SeekRequest(subscription=SUBSCRIPTION)
        request.time.FromSeconds(1)
        call("Subscriber/Seek", request, protos.SeekResponse)
        after = call.pull(1)
        child.kill()
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        call.ack(received)
        call.ack(after)
        assert [each.message.data for each in call.pull(2)] == [b"2"]


def test_delivery_attempts_outlive_a_consumer_that_kills_the_server(tmp_path):
    policy = {"dead_letter_topic": TOPIC, "max_delivery_attempts": 5}
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        call.create(dead_letter_policy=policy)
        call.publish("poison")
        (first,) = call.pull(1)
        assert first.delivery_attempt == 1
        call.publish("barrier")
        child.kill()
    with process("--data-dir", tmp_path) as child, Raw(ready(child)) as call:
        assert call.pull(1)[0].delivery_attempt == 2


def test_folder_in_use_is_named(tmp_path):
    with process("--data-dir", tmp_path) as child:
        ready(child)
        with process("--data-dir", tmp_path) as second:
            _, err = second.communicate(timeout=30)
    assert second.returncode == 2
    assert str(tmp_path) in err
    assert "another server has it open" in err


async def test_folder_in_use_in_the_same_process_is_named(tmp_path):
    async with Server(data_dir=tmp_path):
        with pytest.raises(DataDirError, match="another server has it open"):
            await Server(data_dir=tmp_path).start()
    async with Server(data_dir=tmp_path):
        pass


async def test_port_in_use_is_an_error():
    async with Server() as server:
        port = int(server.target.rpartition(":")[2])
        with pytest.raises(OSError, match="can't listen"):
            await Server(port=port).start()


def test_remote_host_needs_allow_remote():
    with pytest.raises(ValueError, match="allow_remote"):
        Server(host="0.0.0.0")
    Server(host="0.0.0.0", allow_remote=True)


def test_target_needs_a_running_server():
    with pytest.raises(RuntimeError, match="not running"):
        _ = Server().target


async def test_open_stream_ends_when_the_server_stops():
    server = Server()
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        create = channel.unary_unary(
            "/google.pubsub.v1.Publisher/CreateTopic",
            request_serializer=lambda message: message.SerializeToString(),
        )
        await create(protos.Topic(name=TOPIC))
        subscribe = channel.unary_unary(
            "/google.pubsub.v1.Subscriber/CreateSubscription",
            request_serializer=lambda message: message.SerializeToString(),
        )
        await subscribe(protos.Subscription(name=SUBSCRIPTION, topic=TOPIC))
        stream = channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=lambda message: message.SerializeToString(),
        )()
        await stream.write(
            protos.StreamingPullRequest(subscription=SUBSCRIPTION, stream_ack_deadline_seconds=10)
        )
        await server.stop()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
