"""Deliveries of a subscription with transforms: leased first, handed out when transformed.

A filtered message is acknowledged without being delivered; one that can't be transformed counts
as delivered and nacked, so that the retry and dead-letter policies apply, to the message as it
was published (Cloud Pub/Sub documentation, "User-Defined Functions overview").
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from embedded_pubsub.errors import PubSubError
from embedded_pubsub.leases import Lease
from embedded_pubsub.protos import PubsubMessage
from embedded_pubsub.transforms import Outcome

if TYPE_CHECKING:
    from embedded_pubsub.runtime import Feed, Runtime

MAX_LEASES = 16
"""How many are transformed at a time: at 500 ms each, none waits for longer than its lease."""

MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 60.0


class Transforming:
    """What a feed has leased but not handed out yet.

    Args:
        runtime: The running state machine.
        feed: Whose leases are transformed; woken when there are transformed ones.
    """

    def __init__(self, runtime: "Runtime", feed: "Feed") -> None:
        self._runtime = runtime
        self._feed = feed
        self._ready: deque[Lease] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether leases are being transformed, or wait to be handed out."""
        return self._task is not None or bool(self._ready)

    def take(self, max_messages: int) -> list[Lease]:
        """Give what is transformed; where that is nothing, lease something to transform."""
        leases: list[Lease] = []
        while self._ready and len(leases) < max_messages:
            lease = self._ready.popleft()
            if _is_current(lease):
                leases.append(lease)
        if not leases and self._task is None:
            taken = self._runtime.take(self._feed, min(max_messages, MAX_LEASES))
            if taken:
                self._task = asyncio.create_task(self._run(taken))
                self._task.add_done_callback(self._ended)
        return leases

    def close(self) -> None:
        """Give up; what is leased stays so until its deadline."""
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()
        self._feed.wake()

    async def _run(self, leases: Sequence[Lease]) -> None:
        transforms = list(self._feed.subscription.config.message_transforms)
        messages = [PubsubMessage.FromString(body) for body in self._runtime.bodies(leases)]
        outcomes = await self._runtime.transforms.apply(transforms, messages)
        filtered: list[str] = []
        for lease, outcome in zip(leases, outcomes, strict=True):
            if not _is_current(lease):
                continue
            if outcome is None:
                filtered.append(lease.ack_id)
            else:
                self._finish(lease, outcome)
        self._acknowledge(filtered)

    def _finish(self, lease: Lease, outcome: Outcome) -> None:
        if outcome is None or isinstance(outcome, PubSubError):
            self._fail(lease)
            return
        policy = self._feed.subscription.backlog.policy
        seconds = lease.consumer.ack_deadline_seconds or policy.ack_deadline_seconds
        lease.deadline = max(lease.deadline, self._runtime.now() + seconds)
        lease.transformed = outcome.SerializeToString()
        self._ready.append(lease)

    def _fail(self, lease: Lease) -> None:
        """Nack; where no retry policy spaces failures out, do it after a while."""
        entry, policy = lease.entry, self._feed.subscription.backlog.policy
        if policy.backoff is not None:
            self._nack(lease)
            return
        delay = min(MIN_BACKOFF_SECONDS * 2.0 ** min(entry.failures, 60), MAX_BACKOFF_SECONDS)
        if entry.key is not None:
            entry.key.due = self._runtime.now() + delay
            self._nack(lease)
            return
        lease.deadline = max(lease.deadline, self._runtime.now() + delay + 1)
        asyncio.get_running_loop().call_later(delay, self._nack, lease)

    def _nack(self, lease: Lease) -> None:
        state, subscription = self._runtime.state, self._feed.subscription
        if _is_current(lease) and not self._runtime.closing:
            self._settle(lambda now: state.modify_deadlines(subscription, [lease.ack_id], [0], now))

    def _acknowledge(self, ack_ids: Sequence[str]) -> None:
        state, subscription = self._runtime.state, self._feed.subscription
        if ack_ids:
            self._settle(lambda now: state.acknowledge(subscription, ack_ids, now))

    def _settle(self, operation: Callable[[float], None]) -> None:
        # A lease that ran out meanwhile is no loss: the message comes again.
        with suppress(PubSubError):
            self._runtime.call_soon(operation)


def _is_current(lease: Lease) -> bool:
    return lease.entry.lease is lease
