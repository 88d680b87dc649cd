import asyncio
import io

import pytest

from infra.trainer import frames


@pytest.mark.parametrize("cut", [0, 3, 8, 12])
def test_a_stream_that_ends_within_a_frame_is_at_its_end(cut):
    frame = frames.pack({"family": "openness"})
    stream = io.BytesIO(frame + frame[:cut])
    assert frames.read(stream) == {"family": "openness"}
    assert frames.read(stream) is None


async def test_a_worker_is_told_of_a_process_that_is_gone():
    stream = asyncio.StreamReader()
    stream.feed_data(frames.pack("whole") + frames.pack("cut")[:-1])
    stream.feed_eof()
    assert await frames.read_async(stream) == "whole"
    with pytest.raises(asyncio.IncompleteReadError):
        await frames.read_async(stream)
