"""Length-prefixed pickles between a worker and the training process that it started.

Both ends are the same program on the same machine, so that pickle is safe here.
"""

import asyncio
import pickle
import struct
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">Q")


def pack(message: object) -> bytes:
    """One frame."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


def read(stream: BinaryIO) -> Any | None:  # noqa: ANN401 - what was packed
    """The next message of a blocking stream; None at its end, also in the middle of a frame."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length = _LENGTH.unpack(head)[0]
    body = stream.read(length)
    if len(body) < length:
        return None
    return pickle.loads(body)  # noqa: S301 - written by our own process


async def read_async(stream: asyncio.StreamReader) -> Any:  # noqa: ANN401 - what was packed
    """The next message. Raises asyncio.IncompleteReadError when the other end is gone."""
    head = await stream.readexactly(_LENGTH.size)
    body = await stream.readexactly(_LENGTH.unpack(head)[0])
    return pickle.loads(body)  # noqa: S301 - written by our own process
