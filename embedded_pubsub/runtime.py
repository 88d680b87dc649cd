"""The state machine in an asyncio loop: durability before answers, timers, and wake-ups.

What the state machine changed is handed to the journal, which commits it in a thread of its own,
whole groups at a time; the loop is never blocked by the disk.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from embedded_pubsub.changes import Change
from embedded_pubsub.errors import PubSubError, ResourceExhaustedError, UnavailableError
from embedded_pubsub.leases import Consumer, Lease
from embedded_pubsub.protos import Proto
from embedded_pubsub.resources import SubscriptionState
from embedded_pubsub.state import PubSub
from embedded_pubsub.store import Store
from embedded_pubsub.transforming import Transforming
from embedded_pubsub.transforms import Transforms

T = TypeVar("T")
K = TypeVar("K")

MAX_MESSAGES_PER_RESPONSE = 500
MAX_BYTES_PER_RESPONSE = 1_000_000
TICK_SECONDS = 0.01
EXPIRE_EVERY_SECONDS = 60.0
RETRY_COMMIT_SECONDS = 1.0


class Clock:
    """Seconds since the epoch, as the wall clock says at the start, steady from then on."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Give the time."""
        return time.monotonic() + self._offset


@dataclass(slots=True, eq=False)
class _Write:
    changes: list[Change]
    then: Callable[[], None] | None
    done: asyncio.Future[None]


class Journal:
    """Group commit: all that is asked for while one commit runs goes into the next one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, "embedded-pubsub-store")
        self._pending: list[_Write] = []
        self._task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None

    def write(
        self, changes: list[Change], then: Callable[[], None] | None = None
    ) -> asyncio.Future[None]:
        """Make changes durable.

        Args:
            changes: What to commit, after everything that was written before.
            then: Called in the loop once it is committed, in the order of the writes. Changes
                without it are tried again if the commit fails; with it, they are dropped.

        Returns:
            A future that is done after `then`, or has the error.
        """
        done = asyncio.get_running_loop().create_future()
        if not self._store.durable:
            if then is not None:
                then()
            done.set_result(None)
            return done
        self._pending.append(_Write(changes, then, done))
        self._start()
        return done

    async def close(self) -> None:
        """Commit what is pending and close the store."""
        self._start()
        if self._task is not None:
            await self._task
        if self._retry is not None:
            self._retry.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    def _start(self) -> None:
        if self._task is None and self._pending:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._pending and await self._commit():
                pass
        finally:
            self._task = None

    async def _commit(self) -> bool:
        batch, self._pending = self._pending, []
        error = await self._write(batch)
        if error is None:
            return True
        publishes = [write for write in batch if write.then is not None]
        others = [write for write in batch if write.then is None]
        for write in publishes:
            _fail(write, error)
        # Without the publishes there may be room: what is acknowledged is what makes room again.
        if publishes and await self._write(others) is None:
            return True
        for write in others:
            _fail(write, error)
        self._pending[:0] = others
        self._retry = asyncio.get_running_loop().call_later(RETRY_COMMIT_SECONDS, self._start)
        return False

    async def _write(self, batch: Sequence[_Write]) -> PubSubError | None:
        changes = [change for write in batch for change in write.changes]
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._store.commit, changes)
        except ResourceExhaustedError as error:
            return error
        for write in batch:
            _finish(write)
        return None


def _fail(write: _Write, error: PubSubError) -> None:
    if not write.done.done():
        write.done.set_exception(error)
        write.done.exception()


def _finish(write: _Write) -> None:
    if write.then is not None:
        write.then()
    if not write.done.done():
        write.done.set_result(None)


def _restored(store: Store) -> PubSub:
    """Rebuild the state; the collector would scan again and again what is no garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return PubSub(store.load(), store.resident_bytes)
    finally:
        if collecting:
            gc.enable()


class Runtime:
    """One server's state machine, running.

    Args:
        store: Where the state comes from and its changes go.
        clock: Gives the time in seconds since the epoch; must never go back.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.state = _restored(store)
        self._clock = clock
        self._journal = Journal(store)
        self.transforms = Transforms()
        self._feeds: dict[SubscriptionState, set[Feed]] = {}
        self._listening: dict[int, set[Feed]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._expiry: asyncio.TimerHandle | None = None
        self.closing = False
        self.on_touched: Callable[[SubscriptionState], None] | None = None

    def now(self) -> float:
        """Give the time, in seconds since the epoch."""
        return self._clock()

    def start(self) -> None:
        """Start the timers; needs a running loop."""
        self._expire()

    async def close(self) -> None:
        """Stop the timers and write what is pending."""
        for handle in (self._timer, self._expiry):
            if handle is not None:
                handle.cancel()
        await self.transforms.close()
        await self._journal.close()

    def end_feeds(self) -> None:
        """Have every feed say that the server is closing."""
        self.closing = True
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.wake()

    async def call(self, operation: Callable[[float], T]) -> T:
        """Run an operation of the state machine at the present time; ends when it is durable."""
        try:
            return operation(self._clock())
        finally:
            durable = self._flush()
            if durable is not None:
                await durable

    def call_soon(
        self, operation: Callable[[float], T], then: Callable[[bool], None] | None = None
    ) -> T:
        """Run an operation of the state machine; it becomes durable a little later.

        Args:
            operation: Is told the time.
            then: Called once what it changed is durable, with True, or could not be written yet,
                with False.
        """
        try:
            return operation(self._clock())
        finally:
            durable = self._flush()
            if then is not None:
                _when_done(durable, then)

    async def publish(self, request: Proto) -> list[str]:
        """Publish the messages of a `PublishRequest`; delivers them once they are durable."""
        publication = self.state.prepare(request, self._clock())

        def deliver() -> None:
            self.state.deliver(publication)
            self._flush()

        await self._journal.write(publication.changes(), deliver)
        return publication.message_ids()

    def open(self, subscription: SubscriptionState, consumer: Consumer) -> "Feed":
        """Start handing messages of a subscription to a consumer."""
        feed = Feed(self, subscription, consumer)
        self._feeds.setdefault(subscription, set()).add(feed)
        if subscription.backlog.log is not None:
            self._listening.setdefault(subscription.topic, set()).add(feed)
        return feed

    def consumers(self, subscription: SubscriptionState) -> int:
        """Count the open feeds of a subscription."""
        return len(self._feeds.get(subscription, ()))

    def close_feed(self, feed: "Feed") -> None:
        """Stop handing messages to a consumer; what it has stays leased until its deadline."""
        _discard(self._feeds, feed.subscription, feed)
        _discard(self._listening, feed.subscription.topic, feed)

    def take(self, feed: "Feed", max_messages: int) -> list[Lease]:
        """Lease what is ready to a feed's consumer."""
        subscription = feed.subscription
        leases = self.state.take(
            subscription, feed.consumer, self._clock(), max_messages, MAX_BYTES_PER_RESPONSE
        )
        if self.state.changes:
            self._flush()
        else:
            self._arm()
        return leases

    def bodies(self, leases: Sequence[Lease]) -> Sequence[bytes]:
        """Give the serialized messages of leases that are out."""
        bodies = self.state.bodies([lease.entry.message for lease in leases])
        return [lease.transformed or body for lease, body in zip(leases, bodies, strict=True)]

    def _flush(self) -> asyncio.Future[None] | None:
        """Wake who may have something to do; gives what ends when the changes are durable."""
        state = self.state
        self._arm()
        if state.published:
            published, state.published = state.published, set()
            for topic in published:
                for feed in self._listening.get(topic.number, ()):
                    feed.wake()
        if state.deliverable:
            touched, state.deliverable = state.deliverable, set()
            for subscription in touched:
                self._wake(subscription)
        if not state.changes:
            return None
        changes, state.changes = state.changes, []
        return self._journal.write(changes)

    def _wake(self, subscription: SubscriptionState) -> None:
        for feed in self._feeds.get(subscription, ()):
            feed.wake()
        if self.on_touched is not None:
            self.on_touched(subscription)

    def _arm(self) -> None:
        due = self.state.next_due()
        if due is None or due >= self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        delay = max(due - self._clock(), TICK_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer_due = float("inf")
        self.call_soon(self.state.tick)

    def _expire(self) -> None:
        self.call_soon(lambda now: self.state.expire(now, self._feeds))
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(EXPIRE_EVERY_SECONDS, self._expire)


def _when_done(durable: asyncio.Future[None] | None, then: Callable[[bool], None]) -> None:
    if durable is None or durable.done():
        then(durable is None or durable.exception() is None)
    else:
        durable.add_done_callback(lambda each: then(each.exception() is None))


def _discard(feeds: dict[K, set["Feed"]], key: K, feed: "Feed") -> None:
    found = feeds.get(key, set())
    found.discard(feed)
    if not found:
        feeds.pop(key, None)


class Feed:
    """The messages of one subscription as they come to one consumer."""

    def __init__(
        self, runtime: Runtime, subscription: SubscriptionState, consumer: Consumer
    ) -> None:
        self.subscription = subscription
        self.consumer = consumer
        self._runtime = runtime
        self._woken = asyncio.Event()
        self._transforming = Transforming(runtime, self)

    def wake(self) -> None:
        """Have `wait` end: something may have changed."""
        self._woken.set()

    async def wait(self) -> None:
        """Wait for a `wake` since the last one."""
        await self._woken.wait()
        self._woken.clear()

    def take(self, max_messages: int = MAX_MESSAGES_PER_RESPONSE) -> list[Lease]:
        """Lease what is ready, which may be nothing.

        Raises:
            UnavailableError: The server is closing.
            NotFoundError: The subscription was deleted.
            FailedPreconditionError: The subscription was detached.
        """
        if self._runtime.closing:
            raise UnavailableError("The server is closing.")
        self._runtime.state.check_alive(self.subscription)
        if self.subscription.config.message_transforms or self.transforming:
            return self._transforming.take(max_messages)
        return self._runtime.take(self, max_messages)

    @property
    def transforming(self) -> bool:
        """Whether something is leased that `take` has yet to give, because it is transformed."""
        return self._transforming.busy

    def close(self) -> None:
        """Take no more."""
        self._transforming.close()
        self._runtime.close_feed(self)
