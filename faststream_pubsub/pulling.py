"""One subscription being read: stream, leases, queue, workers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import grpc

from faststream_pubsub import wire
from faststream_pubsub.acknowledging import Acknowledger
from faststream_pubsub.backoff import full_jitter
from faststream_pubsub.client import PubSubClient, is_being_cancelled
from faststream_pubsub.dead_letters import dead_letter
from faststream_pubsub.deliveries import Delivery, DeliveryQueue, LeaseTable
from faststream_pubsub.errors import PubSubError
from faststream_pubsub.publishing import MessagePublisher
from faststream_pubsub.settings import EXACTLY_ONCE_DEADLINE_SECONDS, SubscriptionSettings
from faststream_pubsub.watchdog import BEAT_SECONDS, StreamWatch, SubscriptionHealth

LEASE_TICK_SECONDS: Final = 1.0
_PING_SECONDS: Final = 3.0
_FLUSH_SECONDS: Final = 10.0
_HALF_CLOSE_SECONDS: Final = 1.0
# so many messages in a row may be handled before acks leave and others have their turn
_TURN_MESSAGES: Final = 50

Log: TypeAlias = Callable[[int, str, BaseException | None], None]
# takes a Delivery, or a Batch where the settings ask for batches
Handler: TypeAlias = Callable[[Any], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is read: full names, and how to make them be there.

    Attributes:
        subscription: Full name of the subscription.
        dead_letter_topic: Full name of its dead-letter topic, if it has one.
        ensure: Creates or checks topic and subscription.
    """

    subscription: str
    dead_letter_topic: str | None
    ensure: Callable[[], Awaitable[None]]


class Pulling:
    """Reads a subscription until it is closed, whatever happens to the stream."""

    def __init__(
        self,
        client: PubSubClient,
        publisher: MessagePublisher,
        source: Source,
        settings: SubscriptionSettings,
        log: Log,
    ) -> None:
        self._client = client
        self._publisher = publisher
        self._source = source
        self._settings = settings
        self._log = log
        self._leases = LeaseTable(
            lease_seconds=settings.lease_seconds,
            longest_seconds=settings.max_lease_seconds,
        )
        # one worker keeps the order of keys by itself, and so may have batches full of one key
        self._serial = settings.batch and settings.max_workers == 1
        self._queue = DeliveryQueue(
            ordered=settings.enable_message_ordering and not self._serial,
        )
        self._acknowledger = Acknowledger(
            client,
            source.subscription,
            on_lost=partial(self._lose, why="the service had ended it"),
            on_error=self._report,
            on_failed=self._count_failed_acks,
        )
        self._watch = StreamWatch(max_silence_seconds=settings.max_silence_seconds)
        self._room = asyncio.Event()
        self._delays = full_jitter()
        self._exactly_once = settings.enable_exactly_once_delivery
        self._stopping = False
        self._lost_leases = 0
        self._failed_acks = 0
        self._stream: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._workers: list[asyncio.Task[None]] = []

    # life

    def start(self, handle: Handler | None) -> None:
        """Start reading; without a handler, deliveries wait for `get`."""
        self._reader = asyncio.create_task(self._read_for_ever())
        self._keeper = asyncio.create_task(self._keep_leases())
        if handle is not None:
            work = self._work_in_batches if self._settings.batch else self._work
            self._workers = [
                asyncio.create_task(work(handle)) for _ in range(self._settings.max_workers)
            ]

    async def get(self) -> Delivery:
        """Wait for the next delivery."""
        while True:
            delivery = await self._queue.get()
            self._release(self._queue.done(delivery))
            if delivery in self._leases:
                return delivery

    def health(self, name: str) -> SubscriptionHealth:
        """Say how reading goes, under the subscription's declared name."""
        return SubscriptionHealth(
            subscription=name,
            down_seconds=self._watch.down_seconds(asyncio.get_running_loop().time()),
            held_messages=len(self._leases),
            lost_leases=self._lost_leases,
            failed_acks=self._failed_acks,
        )

    async def stop_reading(self) -> None:
        """Read no more, and give back at once what no handler has begun."""
        self._stopping = True
        self._room.set()
        self._release(self._queue.take_all())
        await self._half_close()
        await _cancel(self._reader)

    async def _half_close(self) -> None:
        # a server that is only cut off may go on to lease messages to this stream
        if self._stream is None or self._reader is None:
            return
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            async with asyncio.timeout(_HALF_CLOSE_SECONDS):
                await self._stream.done_writing()
                await asyncio.shield(self._reader)

    async def close(self) -> None:
        """Stop for good: unsettled messages are released, queued acks are sent."""
        await self.stop_reading()
        await _cancel(*self._workers)
        await _cancel(self._keeper)
        self._release(self._leases.end_all())
        await self._acknowledger.close(_FLUSH_SECONDS)

    # settling

    def ack(self, delivery: Delivery) -> Awaitable[None] | None:
        """Acknowledge; with exactly-once delivery, there is a confirmation to wait for."""
        if self._exactly_once:
            return self._ack_confirmed(delivery)
        self._let_go(delivery)
        self._acknowledger.ack(delivery)
        return None

    async def _ack_confirmed(self, delivery: Delivery) -> None:
        delivery.settling = True
        try:
            await self._acknowledger.ack_confirmed(delivery)
        finally:
            self._let_go(delivery)

    async def ack_all(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge several; with exactly-once delivery, wait for all confirmations."""
        if not self._exactly_once:
            self._leases.end_these(deliveries)
            self._room.set()
            self._acknowledger.ack_all(deliveries)
            return
        confirmations = map(self._ack_confirmed, deliveries)
        results = await asyncio.gather(*confirmations, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def nack(self, delivery: Delivery, delay_seconds: int) -> None:
        """Have it delivered again: at once, or when a lease of `delay_seconds` ends."""
        delivery.nacked = True
        self._let_go(delivery)
        self._acknowledger.set_deadline([delivery], delay_seconds)

    async def reject(
        self,
        delivery: Delivery,
        *,
        reason: str,
        attributes: Mapping[str, str],
    ) -> None:
        """Keep it as a dead letter, then acknowledge."""
        message_id = delivery.message_id
        if self._source.dead_letter_topic is None:
            self._log(
                logging.ERROR,
                f"message {message_id} is rejected and gone: {self._source.subscription} has no "
                f"dead_letter_topic. Reason: {reason or 'none given'}",
                None,
            )
            await self._ack(delivery)
            return
        letter = dead_letter(delivery, reason=reason, attributes=attributes)
        try:
            await self._publisher.publish(self._source.dead_letter_topic, letter)
        except PubSubError as error:
            self._log(
                logging.ERROR,
                f"dead letter of message {message_id} is not kept, so the message comes again: "
                f"{error}. Who rejects needs roles/pubsub.publisher on the dead-letter topic.",
                error,
            )
            await self.nack(delivery, 0)
            return
        await self._ack(delivery)

    async def _ack(self, delivery: Delivery) -> None:
        if confirmation := self.ack(delivery):
            await confirmation

    def _let_go(self, delivery: Delivery) -> None:
        self._leases.end(delivery)
        self._room.set()

    def _release(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._let_go(delivery)
        self._acknowledger.set_deadline(deliveries, 0)

    # handling

    async def _work(self, handle: Handler) -> None:
        now = asyncio.get_running_loop().time
        queue = self._queue
        turn = 0
        while not self._stopping:
            turn += 1
            if turn % _TURN_MESSAGES == 0:
                await asyncio.sleep(0)
            delivery = await queue.get()
            began = now()
            # a lease may have ended while it waited; the message comes again then
            if delivery in self._leases:
                try:
                    await handle(delivery)
                except asyncio.CancelledError:
                    # a handler may leak a cancellation of its own; that must not end the worker
                    if is_being_cancelled():
                        raise
                    self._release([delivery])
                self._leases.learn(now() - began)
            if released := queue.done(delivery):
                self._release(released)

    async def _work_in_batches(self, handle: Handler) -> None:
        now = asyncio.get_running_loop().time
        size, wait_seconds = self._settings.max_batch_size, self._settings.max_batch_wait_seconds
        while not self._stopping:
            await asyncio.sleep(0)
            gathered = await self._queue.get_batch(max_size=size, wait_seconds=wait_seconds)
            began = now()
            if held := tuple(delivery for delivery in gathered if delivery in self._leases):
                try:
                    await handle(held)
                except asyncio.CancelledError:
                    if is_being_cancelled():
                        raise
                    self._release(list(held))
                self._leases.learn(now() - began)
            if released := self._queue.done_batch(gathered):
                self._release(released)

    # leases

    async def _keep_leases(self) -> None:
        now = asyncio.get_running_loop().time
        heartbeat_at = now() + BEAT_SECONDS
        while True:
            await asyncio.sleep(LEASE_TICK_SECONDS)
            longest = f"max_lease_seconds={self._settings.max_lease_seconds} is over"
            self._lose(self._leases.take_expired(now=now()), why=longest)
            lease_seconds, due = self._leases.take_due(now=now())
            self._acknowledger.set_deadline(due, lease_seconds)
            if now() >= heartbeat_at:
                heartbeat_at = now() + BEAT_SECONDS
                await self._beat()
            if self._watch.check(now()) and self._stream is not None:
                self._stream.cancel()

    async def _beat(self) -> None:
        if self._stream is not None:
            # a broken stream is the reader's to notice and mend
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._stream.write(wire.StreamingPullRequest())

    def _count_failed_acks(self, count: int) -> None:
        self._failed_acks += count

    def _lose(self, deliveries: list[Delivery], *, why: str) -> None:
        self._lost_leases += len(deliveries)
        for delivery in deliveries:
            # what is behind it in its key will come again with it
            delivery.nacked = True
            self._let_go(delivery)
            self._log(
                logging.WARNING,
                f"lease of message {delivery.message_id} has ended before it was settled, "
                f"as {why}; it may be delivered again",
                None,
            )

    # reading

    async def _read_for_ever(self) -> None:
        while not self._stopping:
            try:
                await self._read_one_stream()
            except grpc.aio.AioRpcError as error:
                await self._after_end(error.code(), error.details())
            except asyncio.CancelledError:
                # grpc.aio raises it for a stream that the watch has cancelled, too
                if is_being_cancelled():
                    raise
                await self._after_silence()
            if not self._stopping:
                await asyncio.sleep(next(self._delays))

    async def _read_one_stream(self) -> None:
        now = asyncio.get_running_loop().time
        stream = self._client.rpcs.streaming_pull()
        self._watch.opened(now())
        # from here on the watch may cancel it: a connection can be dead from the start
        self._stream = stream
        try:
            await stream.write(self._opening())
            while (response := await stream.read()) is not grpc.aio.EOF:
                self._take(response)
                if self._is_full():
                    await self._wait_for_room()
        finally:
            self._stream = None
            self._watch.closed(now())
            stream.cancel()

    async def _after_silence(self) -> None:
        self._log(
            logging.WARNING,
            f"stream of {self._source.subscription} was silent for "
            f"{self._watch.allowed_seconds:.0f} s, it is opened again",
            None,
        )
        rpcs = self._client.rpcs
        if not await self._client.ping(_PING_SECONDS) and self._client.rpcs is rpcs:
            self._client.renew()

    def _opening(self) -> wire.Proto:
        return wire.StreamingPullRequest(
            subscription=self._source.subscription,
            stream_ack_deadline_seconds=self._settings.lease_seconds,
            max_outstanding_messages=self._settings.max_messages,
            max_outstanding_bytes=self._settings.max_bytes,
            protocol_version=1,
        )

    def _take(self, response: wire.Proto) -> None:
        self._delays = full_jitter()
        now = asyncio.get_running_loop().time()
        self._watch.heard(now, has_content=bool(response.received_messages))
        properties = response.subscription_properties
        if properties.exactly_once_delivery_enabled:
            self._exactly_once = True
            self._leases.at_least(EXACTLY_ONCE_DEADLINE_SECONDS)
        if properties.message_ordering_enabled and not self._serial:
            self._queue.ordered = True
        subscription = self._source.subscription
        deliveries = [
            Delivery(
                received.message,
                ack_id=received.ack_id,
                attempt=received.delivery_attempt,
                subscription=subscription,
                settler=self,
            )
            for received in response.received_messages
        ]
        if self._stopping:
            self._acknowledger.set_deadline(deliveries, 0)
            return
        self._queue.put(self._leases.begin(deliveries, now=now))

    def _is_full(self) -> bool:
        return (
            len(self._leases) >= self._settings.max_messages
            or self._leases.held_bytes >= self._settings.max_bytes
        )

    async def _wait_for_room(self) -> None:
        self._watch.paused()
        while self._is_full() and not self._stopping:
            self._room.clear()
            await self._room.wait()
        self._watch.resumed(asyncio.get_running_loop().time())

    async def _after_end(self, code: grpc.StatusCode, details: str | None) -> None:
        self._log(
            logging.DEBUG if code in wire.TRANSIENT else logging.ERROR,
            f"stream of {self._source.subscription} has ended, it is opened again: "
            f"{code.name}: {details}",
            None,
        )
        if code is not grpc.StatusCode.NOT_FOUND:
            return
        try:
            await self._source.ensure()
        except PubSubError as error:
            self._report("it could not be restored", error)

    def _report(self, text: str, error: BaseException) -> None:
        self._log(logging.ERROR, f"{self._source.subscription}: {text}", error)


async def _cancel(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks and wait for their end, except the one that asks."""
    others = [task for task in tasks if task is not None and task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
