"""What every adapter of the objects port does."""

import asyncio
import hashlib

import pytest

from infra.errors import TerminalError


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def test_an_object_is_written_and_read(objects):
    stored = await objects.put_once("a/b-1.json", b"\x00\xffdata")

    assert stored.created
    assert stored.uri == objects.uri("a/b-1.json")
    assert stored.digest == sha256(b"\x00\xffdata")
    assert await objects.get(stored.uri) == b"\x00\xffdata"


async def test_the_same_content_again_changes_nothing(objects):
    first = await objects.put_once("a/b", b"same")
    again = await objects.put_once("a/b", b"same")

    assert (first.created, again.created) == (True, False)
    assert (first.uri, first.digest) == (again.uri, again.digest)


async def test_other_content_is_refused_with_both_digests(objects):
    stored = await objects.put_once("a/b", b"first")

    with pytest.raises(TerminalError) as refused:
        await objects.put_once("a/b", b"second")

    assert stored.uri in str(refused.value)
    assert stored.digest in str(refused.value)
    assert sha256(b"second") in str(refused.value)
    assert await objects.get(stored.uri) == b"first"


async def test_an_empty_and_a_large_object_are_kept_whole(objects):
    large = b"0123456789abcdef" * 400_000
    for key, data in (("empty", b""), ("large", large)):
        stored = await objects.put_once(key, data)
        assert await objects.get(stored.uri) == data


async def test_of_many_writers_of_one_content_one_creates(objects):
    stored = await asyncio.gather(*(objects.put_once("x/one", b"same") for _ in range(12)))

    assert sum(one.created for one in stored) == 1
    assert len({one.digest for one in stored}) == 1


async def test_of_many_writers_of_different_content_one_wins(objects):
    contents = [b"content %d" % index for index in range(12)]

    ended = await asyncio.gather(
        *(objects.put_once("x/one", data) for data in contents), return_exceptions=True
    )

    refused = [end for end in ended if isinstance(end, TerminalError)]
    (winner,) = [end for end in ended if not isinstance(end, BaseException)]
    assert len(refused) == 11
    assert winner.digest == sha256(await objects.get(winner.uri))


async def test_a_list_holds_what_lies_below_whole_segments(objects):
    for key in ("a/b/2", "a/b/1", "a/bc/3", "d"):
        await objects.put_once(key, key.encode())

    below = tuple(objects.uri(key) for key in ("a/b/1", "a/b/2"))
    assert await objects.list("a/b") == await objects.list("a/b/") == below
    assert await objects.list("") == tuple(
        sorted(objects.uri(key) for key in ("a/b/1", "a/b/2", "a/bc/3", "d"))
    )
    assert await objects.list("nothing") == ()
    assert await objects.list("d") == ()


@pytest.mark.parametrize("key", ["missing", "a"])
async def test_an_object_that_is_not_there_is_an_error_with_its_uri(objects, key):
    await objects.put_once("a/b", b"")

    with pytest.raises(TerminalError, match="does not exist") as refused:
        await objects.get(objects.uri(key))

    assert objects.uri(key) in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a//b",
        "a/",
        "..",
        "a/../b",
        "./a",
        ".hidden",
        "a#1",
        "a b",
        "é",
        "a\nb",
        "a%2Fb",
        "a\\b",
        "gs://b/a",
        "x" * 201,
        "/".join(["x" * 150] * 7),
    ],
)
async def test_a_key_that_means_different_things_in_places_is_refused(objects, key):
    with pytest.raises(TerminalError, match="can't be used"):
        await objects.put_once(key, b"")
    with pytest.raises(TerminalError, match="can't be used"):
        objects.uri(key)


@pytest.mark.parametrize("tail", ["/../other", "/a/../../other", "", "x/a"])
async def test_a_uri_of_another_root_is_refused(objects, tail):
    root = objects.uri("a").removesuffix("/a")

    with pytest.raises(TerminalError):
        await objects.get(f"{root}{tail}")
