"""Single message transforms: what is done to a message before it is kept, or delivered.

Source: Cloud Pub/Sub documentation, "Single Message Transforms overview" and "User-Defined
Functions overview"; the API reference of `MessageTransform`.
"""

import asyncio
import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from embedded_pubsub import limits
from embedded_pubsub.errors import (
    InvalidArgumentError,
    PubSubError,
    UnimplementedError,
)
from embedded_pubsub.javascript import Script
from embedded_pubsub.protos import Compression, Proto
from embedded_pubsub.settings import copy

T = TypeVar("T")

MAX_SCRIPTS = 16
"""How many functions stay compiled, the last used ones; each has its own V8 isolate."""

Outcome = Proto | PubSubError | None
"""A transformed message, why it could not be transformed, or None: it is filtered out."""


class Transforms:
    """Runs the transforms of all topics and subscriptions of a server, one message at a time.

    They run on an event loop in a thread of its own, which starts when the first one is needed.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(
            target=self._run_loop, name="embedded-pubsub-transforms", daemon=True
        )
        self._turn = asyncio.Lock()
        self._scripts: OrderedDict[tuple[str, str], Script] = OrderedDict()

    async def check(self, transforms: Sequence[Proto]) -> None:
        """Refuse transforms that can't run.

        Raises:
            InvalidArgumentError: The code of one does not compile, or a limit is broken.
            UnimplementedError: One is of a kind that is not served here.
        """
        limits.check_transforms(transforms)
        udfs = [each.javascript_udf for each in transforms if each.HasField("javascript_udf")]
        if udfs:
            await self._elsewhere(self._compile(udfs))

    async def apply(self, transforms: Sequence[Proto], messages: Sequence[Proto]) -> list[Outcome]:
        """Transform messages, each by all transforms that are not disabled, in their order."""

        async def run() -> list[Outcome]:
            return [(await self._steps(transforms, each))[-1] for each in messages]

        return await self._elsewhere(run())

    async def steps(self, transforms: Sequence[Proto], message: Proto) -> list[Outcome]:
        """Give a message as it is, and after each transform, up to the first that ends its way."""
        return await self._elsewhere(self._steps(transforms, message))

    async def close(self) -> None:
        """Stop what runs, and free V8."""
        if self._loop is None:
            return
        loop = self._loop

        async def free() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            for script in self._scripts.values():
                script.close()
            loop.stop()

        asyncio.run_coroutine_threadsafe(free(), loop)
        await asyncio.to_thread(self._thread.join)

    async def _elsewhere(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread.start()

        async def in_turn() -> T:
            async with self._turn:
                return await work

        future = asyncio.run_coroutine_threadsafe(in_turn(), self._loop)
        return await asyncio.wrap_future(future)

    def _run_loop(self) -> None:
        if self._loop is not None:
            self._loop.run_forever()
            self._loop.close()

    async def _steps(self, transforms: Iterable[Proto], message: Proto) -> list[Outcome]:
        outcomes: list[Outcome] = [message]
        for transform in transforms:
            present = outcomes[-1]
            if present is None or isinstance(present, PubSubError):
                break
            if not transform.disabled:
                outcomes.append(await self._outcome(transform, present))
        return outcomes

    async def _outcome(self, transform: Proto, message: Proto) -> Outcome:
        try:
            if transform.HasField("compression"):
                return _compressed(transform.compression, message)
            return await _called(await self._script(transform.javascript_udf), message)
        except (InvalidArgumentError, UnimplementedError) as error:
            return error

    async def _compile(self, udfs: Iterable[Proto]) -> None:
        for udf in udfs:
            await self._script(udf)

    async def _script(self, udf: Proto) -> Script:
        key = (udf.function_name, udf.code)
        script = self._scripts.get(key)
        if script is None:
            script = self._scripts[key] = await Script(*key).start()
        self._scripts.move_to_end(key)
        while len(self._scripts) > MAX_SCRIPTS:
            self._scripts.popitem(last=False)[1].close()
        return script


async def _called(script: Script, message: Proto) -> Proto | None:
    try:
        data = message.data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            f"message.data: is not UTF-8, which a JavaScript UDF needs: {error}."
        ) from error
    shown = {"data": data, "attributes": dict(message.attributes)}
    answer = await script.call(json.dumps([shown, _metadata(message)]))
    result = json.loads(answer) if answer is not None else "nothing"
    return None if result is None else _changed(message, result)


def _metadata(message: Proto) -> dict[str, str]:
    metadata = {"message_id": message.message_id, "ordering_key": message.ordering_key}
    if message.HasField("publish_time"):
        metadata["publish_time"] = message.publish_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")
    return {name: value for name, value in metadata.items() if value}


def _changed(message: Proto, result: object) -> Proto:
    if not isinstance(result, dict) or not isinstance(result.get("data"), str):
        raise InvalidArgumentError(
            "A JavaScript UDF must return null, or an object with the string 'data' and, "
            "optionally, the object 'attributes'."
        )
    attributes = result.get("attributes", dict(message.attributes))
    if not isinstance(attributes, dict) or not all(isinstance(v, str) for v in attributes.values()):
        raise InvalidArgumentError("A JavaScript UDF must return attributes that are strings.")
    changed = copy(message)
    try:
        changed.data = result["data"].encode()
        changed.attributes.clear()
        changed.attributes.update(attributes)
    except ValueError as error:
        raise InvalidArgumentError(f"A JavaScript UDF returned no Unicode text: {error}") from error
    return changed


def _compressed(compression: Proto, message: Proto) -> Proto:
    changed = copy(message)
    if compression.compression_mode == Compression.COMPRESS:
        changed.data = zlib.compress(message.data)
        return changed
    decompressor = zlib.decompressobj()
    try:
        changed.data = decompressor.decompress(message.data, limits.MAX_REQUEST_BYTES)
    except zlib.error as error:
        raise InvalidArgumentError(f"message.data: is not compressed with zlib: {error}") from error
    if not decompressor.eof:
        raise InvalidArgumentError(
            f"message.data: is cut short, or more than {limits.MAX_REQUEST_BYTES} bytes when "
            "decompressed."
        )
    return changed
