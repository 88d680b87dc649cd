"""One subscription being read: stream, leases, queue, workers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

import grpc

from faststream_pubsub import wire
from faststream_pubsub.backoff import full_jitter
from faststream_pubsub.client import PubSubClient, is_being_cancelled
from faststream_pubsub.deliveries import Delivery, DeliveryQueue
from faststream_pubsub.errors import PubSubError
from faststream_pubsub.holdings import FLUSH_SECONDS, Holdings, Log, Source
from faststream_pubsub.publishing import MessagePublisher
from faststream_pubsub.settings import SubscriptionSettings
from faststream_pubsub.watchdog import BEAT_SECONDS, StreamWatch, SubscriptionHealth

LEASE_TICK_SECONDS: Final = 1.0
_PING_SECONDS: Final = 3.0
_CANCEL_SECONDS: Final = 5.0
_HALF_CLOSE_SECONDS: Final = 1.0
# so many messages in a row may be handled before acks leave and others have their turn
_TURN_MESSAGES: Final = 50

# takes a Delivery, or a Batch where the settings ask for batches
Handler: TypeAlias = Callable[[Any], Awaitable[object]]


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
        self._source = source
        self._settings = settings
        self._log = log
        self._held = Holdings(client, publisher, source, settings, log)
        # one worker keeps the order of keys by itself, and so may have batches full of one key
        self._serial = settings.batch and settings.max_workers == 1
        self._queue = DeliveryQueue(
            ordered=settings.enable_message_ordering and not self._serial,
        )
        self._watch = StreamWatch(max_silence_seconds=settings.max_silence_seconds)
        self._delays = full_jitter()
        self._stopping = False
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
            self._held.release(self._queue.done(delivery))
            if delivery in self._held.leases:
                return delivery

    def health(self, name: str) -> SubscriptionHealth:
        """Say how reading goes, under the subscription's declared name."""
        return SubscriptionHealth(
            subscription=name,
            down_seconds=self._watch.down_seconds(asyncio.get_running_loop().time()),
            held_messages=len(self._held.leases),
            lost_leases=self._held.lost_leases,
            failed_acks=self._held.failed_acks,
        )

    async def stop_reading(self) -> None:
        """Read no more, and give back at once what no handler has begun."""
        self._stopping = True
        self._held.wake()
        self._held.release(self._queue.take_all())
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

    async def close(self, flush_seconds: float = FLUSH_SECONDS) -> None:
        """Stop for good: unsettled messages are released, queued acks are sent."""
        await self.stop_reading()
        if deaf := await _cancel(*self._workers):
            self._held.report(
                f"{deaf} handlers go on although they were cancelled {_CANCEL_SECONDS:.0f} s ago; "
                "their messages are given back",
                None,
            )
        await _cancel(self._keeper)
        await self._held.close(flush_seconds)

    # handling

    async def _work(self, handle: Handler) -> None:
        now = asyncio.get_running_loop().time
        queue, held, leases = self._queue, self._held, self._held.leases
        turn = 0
        while not self._stopping:
            turn += 1
            if turn % _TURN_MESSAGES == 0:
                await asyncio.sleep(0)
            delivery = await queue.get()
            began = now()
            # a lease may have ended while it waited; the message comes again then
            if delivery in leases:
                try:
                    await handle(delivery)
                except asyncio.CancelledError:
                    # a handler may leak a cancellation of its own; that must not end the worker
                    if is_being_cancelled():
                        raise
                    held.release([delivery])
                leases.learn(now() - began)
            if released := queue.done(delivery):
                held.release(released)

    async def _work_in_batches(self, handle: Handler) -> None:
        now = asyncio.get_running_loop().time
        size, wait_seconds = self._settings.max_batch_size, self._settings.max_batch_wait_seconds
        while not self._stopping:
            await asyncio.sleep(0)
            gathered = await self._queue.get_batch(max_size=size, wait_seconds=wait_seconds)
            began = now()
            if batch := self._held.leases.still_held(gathered):
                try:
                    await handle(batch)
                except asyncio.CancelledError:
                    if is_being_cancelled():
                        raise
                    self._held.release(batch)
                self._held.leases.learn(now() - began)
            if released := self._queue.done_batch(gathered):
                self._held.release(released)

    # leases

    async def _keep_leases(self) -> None:
        now = asyncio.get_running_loop().time
        heartbeat_at = now() + BEAT_SECONDS
        while True:
            await asyncio.sleep(LEASE_TICK_SECONDS)
            try:
                self._held.keep(now())
                if now() >= heartbeat_at:
                    heartbeat_at = now() + BEAT_SECONDS
                    await self._beat()
                if self._watch.check(now()) and self._stream is not None:
                    self._stream.cancel()
            except Exception as error:  # noqa: BLE001 - without this task, every lease would end
                self._held.report("a look at the leases has failed, the next one follows", error)

    async def _beat(self) -> None:
        if self._stream is not None:
            # a broken stream is the reader's to notice and mend
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._stream.write(wire.StreamingPullRequest())

    # reading

    async def _read_for_ever(self) -> None:
        while not self._stopping:
            try:
                await self._read_until_it_ends()
            except Exception as error:  # noqa: BLE001 - without this task, nothing would come any more
                self._held.report("reading has failed, it goes on", error)
            if not self._stopping:
                await asyncio.sleep(next(self._delays))

    async def _read_until_it_ends(self) -> None:
        try:
            await self._read_one_stream()
        except grpc.aio.AioRpcError as error:
            await self._after_end(error.code(), error.details())
        except asyncio.CancelledError:
            # grpc.aio raises it for a stream that the watch has cancelled, too
            if is_being_cancelled():
                raise
            await self._after_silence()

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
                if self._held.is_full:
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
            self._held.expect_confirmations()
        if properties.message_ordering_enabled and not self._serial:
            self._queue.ordered = True
        subscription, settler = self._source.subscription, self._held
        deliveries = [
            Delivery(
                received.message, received.ack_id, received.delivery_attempt, subscription, settler
            )
            for received in response.received_messages
        ]
        if self._stopping:
            self._held.release(deliveries)
            return
        self._queue.put(self._held.take(deliveries, now=now))

    async def _wait_for_room(self) -> None:
        self._watch.paused()
        while self._held.is_full and not self._stopping:
            await self._held.wait_for_change()
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
            self._held.report("it could not be restored", error)


async def _cancel(*tasks: asyncio.Task[None] | None) -> int:
    """Cancel tasks, except the one that asks, and tell how many go on all the same."""
    others = [task for task in tasks if task is not None and task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    if not others:
        return 0
    ended, going_on = await asyncio.wait(others, timeout=_CANCEL_SECONDS)
    for task in ended:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would complain
    return len(going_on)
