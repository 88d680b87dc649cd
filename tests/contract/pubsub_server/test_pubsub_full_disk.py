"""A disk that is really full: publishes are refused, nothing is lost, and room heals it."""

import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

import grpc
import pytest

from embedded_pubsub import Server
from embedded_pubsub.testing import ThreadedServer
from tests.support.pubsub_process import Raw, process, ready

BODY = "x" * 20_000


@contextmanager
def small_disk(path, mebibytes):
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("a small disk needs the right to mount one")
    options = ["-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", path]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def publish_until_refused(call):
    """Give the bodies that were acknowledged before the disk was full."""
    bodies = []
    while True:
        body = f"{len(bodies)}-{BODY}"
        try:
            call.publish(body)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            return bodies
        bodies.append(body)


def pulled(call, count):
    received = []
    while len(received) < count and (batch := call.pull(1000)):
        received += batch
    return received


def publish_when_there_is_room(call, body):
    for _ in range(600):
        try:
            call.publish(body)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            time.sleep(0.05)  # the server tries again once a second
        else:
            return
    pytest.fail("the server never found the room")


def test_full_disk_refuses_keeps_acks_and_heals(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, 6):
        other = disk / "other"
        other.write_bytes(bytes(3_000_000))
        with process("--data-dir", disk / "data") as child, Raw(ready(child)) as call:
            call.create()
            kept = publish_until_refused(call)
            assert len(kept) > 20
            received = pulled(call, len(kept))
            assert [each.message.data.decode() for each in received] == kept
            with suppress(grpc.RpcError):  # written at once or, as it is told, later
                call.ack(received[:10])
            other.unlink()
            publish_when_there_is_room(call, "after")
            call.ack(received[10:20])
            child.kill()
        with process("--data-dir", disk / "data") as child, Raw(ready(child)) as call:
            left = [each.message.data.decode() for each in pulled(call, len(kept))]
            assert left == [*kept[20:], "after"]


def test_store_that_may_not_grow_refuses_and_heals(tmp_path):
    with (
        ThreadedServer(Server(data_dir=tmp_path, fsync=False)) as running,
        Raw(running.server.target) as call,
    ):
        call.create()
        writer = running.server._runtime._journal._store._writer
        limit = writer.execute("PRAGMA max_page_count = 300").fetchone()[0]
        assert limit == 300
        kept = publish_until_refused(call)
        assert kept
        received = pulled(call, len(kept))
        call.ack(received[:10])
        call.publish("small")
        again = pulled(call, 1)
        assert [each.message.data for each in again] == [b"small"]
        writer.execute("PRAGMA max_page_count = 100000")
        call.publish(BODY, BODY)
    with (
        ThreadedServer(Server(data_dir=tmp_path, fsync=False)) as running,
        Raw(running.server.target) as call,
    ):
        left = [each.message.data.decode() for each in pulled(call, 1000)]
        assert left == [*kept[10:], "small", BODY, BODY]
