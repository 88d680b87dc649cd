"""What one adapter of the objects port does for its own part."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

import infra.errors
from infra.errors import ServiceUnavailableError, SettingsError, TerminalError
from infra.objects import gcs_objects, open_objects

PROJECT = Path(infra.errors.__file__).parents[1]
WRITE_AND_DIE = """
import asyncio, os, signal, sys
from infra.objects import open_objects

def dying(real):
    def call(*arguments, **options):
        if sys.argv[3] == "after":
            real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    return call

objects = open_objects(sys.argv[1])
setattr(os, sys.argv[2], dying(getattr(os, sys.argv[2])))
asyncio.run(objects.put_once("a/b", b"whole" * 100_000))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["fsync", "link", "unlink", "mkdir"])
async def test_a_killed_writer_leaves_no_half_object(tmp_path, call, when):
    root = tmp_path.joinpath("root").as_uri()
    command = [sys.executable, "-c", WRITE_AND_DIE, root, call, when]
    writer = await asyncio.create_subprocess_exec(*command, env={"PYTHONPATH": str(PROJECT)})
    objects, whole = open_objects(root), b"whole" * 100_000

    assert await writer.wait() == -signal.SIGKILL
    for uri in await objects.list(""):
        assert await objects.get(uri) == whole
    await objects.put_once("a/b", whole)
    assert await objects.get(objects.uri("a/b")) == whole
    assert await objects.list("") == (objects.uri("a/b"),)


async def test_bytes_are_on_disk_before_they_have_their_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, n=name, real=real: (done.append(n), real(*args))[1]
        )
    objects = open_objects(tmp_path.as_uri())

    await objects.put_once("b", b"data")

    assert done == ["fsync", "link", "fsync"]


async def test_a_written_object_leaves_nothing_else(tmp_path):
    objects = open_objects(tmp_path.as_uri())

    await objects.put_once("a/b", b"data")
    await objects.put_once("a/b", b"data")

    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


async def test_an_object_can_t_lie_below_another(tmp_path):
    objects = open_objects(tmp_path.as_uri())
    await objects.put_once("a", b"")

    with pytest.raises(TerminalError, match="part of it is an object"):
        await objects.put_once("a/b", b"")


async def test_a_folder_that_can_t_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ServiceUnavailableError, match="file"):
        open_objects((tmp_path / "file" / "below").as_uri())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "objects",
        "/folder",
        "file:relative",
        "file://host/folder",
        "s3://bucket",
        "gs://",
        "gs:///prefix",
        "gs://bucket/../up",
        "gs://bucket/a b",
    ],
)
def test_a_root_that_is_none_is_refused_with_its_text(url):
    with pytest.raises(SettingsError, match="objects is") as refused:
        open_objects(url)

    assert repr(url) in str(refused.value)


async def test_a_bucket_is_asked_for_a_free_key(bucket, in_bucket):
    await in_bucket.put_once("a", b"data")

    assert bucket.conditions == ["0"]
    assert bucket.stored == {"some/prefix/a": b"data"}


async def test_a_lost_answer_ends_in_the_same_object(bucket, in_bucket):
    faults = iter([-1])
    bucket.fault = lambda method: next(faults, None) if method == "PUT" else None

    stored = await in_bucket.put_once("a", b"data")

    assert bucket.conditions == ["0", "0"]
    assert bucket.stored == {"some/prefix/a": b"data"}
    assert await in_bucket.get(stored.uri) == b"data"


async def test_a_failing_bucket_is_tried_again(bucket, in_bucket):
    faults = iter([503])
    bucket.fault = lambda _method: next(faults, None)

    assert (await in_bucket.put_once("a", b"data")).created


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_bucket_that_goes_on_failing_is_unavailable(bucket, in_bucket, status):
    bucket.fault = lambda _method: status

    with pytest.raises(ServiceUnavailableError, match="gs://bucket/some/prefix/a"):
        await in_bucket.put_once("a", b"data")
    with pytest.raises(ServiceUnavailableError, match="gs://bucket/some/prefix/a"):
        await in_bucket.get(in_bucket.uri("a"))


@pytest.mark.parametrize("status", [401, 403])
async def test_a_bucket_that_is_closed_to_us_is_no_use_trying(bucket, in_bucket, status):
    bucket.fault = lambda _method: status

    with pytest.raises(TerminalError, match="access is denied"):
        await in_bucket.put_once("a", b"data")


async def test_a_bucket_that_is_missing_is_named(bucket, in_bucket):
    bucket.fault = lambda _method: 404

    with pytest.raises(TerminalError, match="gs://bucket/some/prefix/a does not exist"):
        await in_bucket.put_once("a", b"data")


async def test_no_server_is_unavailable(bucket):
    endpoint = bucket.endpoint
    bucket.socket.close()
    objects = gcs_objects("bucket", endpoint=endpoint, retry_seconds=0.2)

    with pytest.raises(ServiceUnavailableError, match="gs://bucket/a"):
        await objects.put_once("a", b"data")
