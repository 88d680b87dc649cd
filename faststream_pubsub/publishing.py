"""Publishing: messages of a topic in few requests, in order where a key asks for it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import grpc

from faststream_pubsub import wire
from faststream_pubsub.client import PubSubClient, with_retry
from faststream_pubsub.coalescer import Coalescer
from faststream_pubsub.errors import InvalidMessageError, PublishError
from faststream_pubsub.flow import MAX_BATCH_BYTES, FlowGate, PublishBatching, PublishFlow
from faststream_pubsub.wire import Proto

MAX_ATTRIBUTES: Final = 100
MAX_ATTRIBUTE_KEY_BYTES: Final = 256
MAX_ATTRIBUTE_VALUE_BYTES: Final = 1_024
MAX_ORDERING_KEY_BYTES: Final = 1_024
_MANY_LANES: Final = 1_000
# the server has the next request while this client reads the answer to the last
_IN_FLIGHT: Final = 4
_PUBLISH_TIMEOUT_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Outgoing:
    topic: str
    ordering_key: str
    data: bytes  # the serialized message
    size_bytes: int
    published: asyncio.Future[str]


def build_message(data: bytes, attributes: Mapping[str, str], ordering_key: str) -> Proto:
    """Build a `google.pubsub.v1.PubsubMessage`.

    Raises:
        InvalidMessageError: The service would refuse it; the text names the limit.
    """
    try:
        check_attributes(attributes)
    except (TypeError, AttributeError):
        raise _not_text(attributes) from None
    if not data and not attributes:
        raise InvalidMessageError("a message needs data or at least one attribute.")
    message = wire.PubsubMessage(data=data)
    if ordering_key:
        if not isinstance(ordering_key, str):
            raise InvalidMessageError(f"ordering_key={ordering_key!r} must be text.")
        if len(ordering_key.encode()) > MAX_ORDERING_KEY_BYTES:
            raise InvalidMessageError(
                f"ordering_key has {len(ordering_key.encode())} bytes; "
                f"Pub/Sub allows {MAX_ORDERING_KEY_BYTES}.",
            )
        message.ordering_key = ordering_key
    held = message.attributes
    # one by one is faster than protobuf's way through an abstract mapping
    for key, value in attributes.items():
        held[key] = value
    return message


def as_text(key: str, value: object) -> str:
    """Write the value of an attribute as text.

    Raises:
        InvalidMessageError: It is None, which is most likely a mistake.
    """
    if value is None:
        raise InvalidMessageError(f"attribute {key!r} is None, which is no text: leave it out.")
    return str(value)


def _not_text(attributes: Mapping[str, str]) -> InvalidMessageError:
    wrong = {k: v for k, v in attributes.items() if not (isinstance(k, str) and isinstance(v, str))}
    return InvalidMessageError(f"attributes must be text with text: {wrong!r} is not.")


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Check attributes against the service's limits.

    Source: https://cloud.google.com/pubsub/quotas#resource_limits.
    """
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidMessageError(
            f"a message has {len(attributes)} attributes; Pub/Sub allows {MAX_ATTRIBUTES}.",
        )
    for key, value in attributes.items():
        # a string has at most four bytes per character, and most are far from the limit
        if not key or (len(key) * 4 > MAX_ATTRIBUTE_KEY_BYTES and _too_long(key, 256)):
            raise InvalidMessageError(
                f"attribute key {key[:40]!r} has {len(key.encode())} bytes; "
                f"1 to {MAX_ATTRIBUTE_KEY_BYTES} are allowed.",
            )
        if len(value) * 4 > MAX_ATTRIBUTE_VALUE_BYTES and _too_long(value, 1_024):
            raise InvalidMessageError(
                f"attribute {key!r} has {len(value.encode())} bytes; "
                f"Pub/Sub allows {MAX_ATTRIBUTE_VALUE_BYTES}.",
            )


def _too_long(text: str, limit_bytes: int) -> bool:
    return len(text.encode()) > limit_bytes


class MessagePublisher:
    """Publishes through one lane per topic and ordering key.

    A lane has one request in flight; without a key there are more when one is full.
    """

    def __init__(
        self,
        client: PubSubClient,
        *,
        autocreate: bool,
        patience_seconds: float,
        batching: PublishBatching,
        flow: PublishFlow,
        compression_bytes: int | None,
    ) -> None:
        """Prepare a publisher.

        Args:
            client: The connection.
            autocreate: Create topics that are absent.
            patience_seconds: How long to try again after transient errors.
            batching: What goes into one request.
            flow: Limits of what is not confirmed yet.
            compression_bytes: Requests of this size and above are compressed with gzip; None
                compresses none.
        """
        self._client = client
        self._gate: FlowGate[_Outgoing] = FlowGate(flow, self._begin)
        self._batching = batching
        self._compression_bytes = compression_bytes
        self._autocreate = autocreate
        self._patience_seconds = patience_seconds
        self._lanes: dict[tuple[str, str], Coalescer[_Outgoing]] = {}
        self._sweep_at = _MANY_LANES

    def publish(self, topic: str, message: Proto) -> asyncio.Future[str]:
        """Publish one message; what is returned waits for its ID.

        Args:
            topic: Full name of the topic.
            message: A `google.pubsub.v1.PubsubMessage`.

        Returns:
            The message ID that the service gave.

        Raises:
            InvalidMessageError: It is too big.
            PublishError: The service refused it, or could not be reached in time.
            FlowControlError: There is no room, and the limits say to raise.
        """
        outgoing = _prepare(topic, message)
        self._enter(outgoing)
        return outgoing.published

    async def publish_batch(self, topic: str, messages: Sequence[Proto]) -> list[str]:
        """Publish several messages and wait for their IDs; see `publish`."""
        batch = [_prepare(topic, message) for message in messages]
        for outgoing in batch:
            self._enter(outgoing)
        return await asyncio.gather(*[outgoing.published for outgoing in batch])

    def _enter(self, outgoing: _Outgoing) -> None:
        if self._gate.enter(outgoing.size_bytes):
            self._begin(outgoing)
        else:
            self._gate.wait(outgoing.size_bytes, outgoing)

    def _begin(self, outgoing: _Outgoing) -> bool:
        if outgoing.published.done():
            return False
        self._lane(outgoing.topic, outgoing.ordering_key).add(outgoing)
        return True

    async def flush(self) -> None:
        """Wait until everything that was queued is published or has failed."""
        for lane in tuple(self._lanes.values()):
            await lane.flush()

    async def close(self, timeout_seconds: float) -> None:
        """Flush; what can't be published in time fails."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.flush()
        except TimeoutError:
            _fail(self._gate.take_waiting(), PublishError("the broker was stopped before"))
            for lane in self._lanes.values():
                self._fail(lane.take_waiting(), PublishError("the broker was stopped before"))
                await lane.abort()
        self._lanes.clear()

    def _lane(self, topic: str, ordering_key: str) -> Coalescer[_Outgoing]:
        lane = self._lanes.get((topic, ordering_key))
        if lane is None:
            if len(self._lanes) >= self._sweep_at:
                self._sweep()
            lane = Coalescer(
                partial(self._send, topic, ordering_key),
                max_items=self._batching.max_messages,
                weigh=_size_bytes,
                max_weight=self._batching.max_bytes,
                linger_seconds=self._batching.max_latency_seconds,
                max_in_flight=1 if ordering_key else _IN_FLIGHT,
            )
            self._lanes[topic, ordering_key] = lane
        return lane

    def _sweep(self) -> None:
        self._lanes = {name: lane for name, lane in self._lanes.items() if not lane.idle}
        self._sweep_at = _MANY_LANES + 2 * len(self._lanes)

    async def _send(self, topic: str, ordering_key: str, batch: list[_Outgoing]) -> None:
        try:
            await self._send_wanted(topic, ordering_key, batch)
        finally:
            self._leave(batch)

    async def _send_wanted(self, topic: str, ordering_key: str, batch: list[_Outgoing]) -> None:
        wanted = [outgoing for outgoing in batch if not outgoing.published.done()]
        if not wanted:
            return
        request = wire.publish_request(topic, [outgoing.data for outgoing in wanted])
        try:
            message_ids = await self._request(topic, request)
        except grpc.aio.AioRpcError as error:
            told = f"{error.code().name}: {error.details()}"
            self._give_up(topic, ordering_key, wanted, told)
        except asyncio.CancelledError:
            _fail(wanted, PublishError("the broker was stopped before"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
            self._give_up(topic, ordering_key, wanted, repr(error))
        else:
            for outgoing, message_id in zip(wanted, message_ids, strict=True):
                if not outgoing.published.done():
                    outgoing.published.set_result(message_id)

    def _give_up(self, topic: str, ordering_key: str, wanted: list[_Outgoing], told: str) -> None:
        failure = PublishError(f"{topic}: {told}")
        # what is behind a failed message of a key would overtake it
        behind = self._lane(topic, ordering_key).take_waiting() if ordering_key else []
        _fail(wanted, failure)
        self._fail(behind, failure)

    async def _request(self, topic: str, request: bytes) -> list[str]:
        try:
            response = await self._publish(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND or not self._autocreate:
                raise
            await self._client.ensure_topic(topic)
            response = await self._publish(request)
        return list(response.message_ids)

    async def _publish(self, request: bytes) -> Proto:
        return await with_retry(
            self._client,
            "publish",
            request,
            patience_seconds=self._patience_seconds,
            timeout_seconds=_PUBLISH_TIMEOUT_SECONDS,
            compression=grpc.Compression.Gzip if self._is_worth_it(request) else None,
        )

    def _is_worth_it(self, request: bytes) -> bool:
        least = self._compression_bytes
        return least is not None and len(request) >= least

    def _fail(self, batch: list[_Outgoing], failure: PublishError) -> None:
        _fail(batch, failure)
        self._leave(batch)

    def _leave(self, batch: list[_Outgoing]) -> None:
        self._gate.leave(len(batch), sum(outgoing.size_bytes for outgoing in batch))


def _prepare(topic: str, message: Proto) -> _Outgoing:
    data = message.SerializeToString()
    size_bytes = len(data)
    if size_bytes > MAX_BATCH_BYTES:
        raise InvalidMessageError(
            f"a message of {size_bytes:,} bytes does not fit a publish request of "
            f"{wire.MAX_REQUEST_BYTES:,} bytes: send a reference to the data instead.",
        )
    published = asyncio.get_running_loop().create_future()
    return _Outgoing(topic, message.ordering_key, data, size_bytes, published)


def _size_bytes(outgoing: _Outgoing) -> int:
    # tag and length around each message of a request
    return outgoing.size_bytes + 8


def _fail(batch: list[_Outgoing], failure: PublishError) -> None:
    for outgoing in batch:
        if not outgoing.published.done():
            outgoing.published.set_exception(failure)
