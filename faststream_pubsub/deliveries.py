"""Messages on their way: delivered, waiting, leased, settled."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from faststream_pubsub.backoff import spread
from faststream_pubsub.wire import Proto

_HISTORY = 256


class Settler(Protocol):
    """Whoever can tell the service what became of a delivery.

    Attributes:
        topic: Topic that the subscriber declares; empty where it declares a subscription only.
    """

    topic: str

    def ack(self, delivery: "Delivery") -> Awaitable[None] | None:
        """Done: don't deliver it again. What is returned waits for the confirmation, if any."""

    async def ack_all(self, deliveries: Sequence["Delivery"]) -> None:
        """Acknowledge several."""

    async def nack(self, delivery: "Delivery", delay_seconds: int) -> None:
        """Deliver it again after a delay."""

    async def reject(
        self,
        delivery: "Delivery",
        *,
        reason: str,
        attributes: Mapping[str, str],
    ) -> None:
        """Never deliver it again; keep it as a dead letter if there is a place for it."""


class Delivery:
    """One delivery of one message: FastStream's raw message of this broker.

    Attributes:
        message: The `google.pubsub.v1.PubsubMessage`.
        message_id: Its ID.
        ack_id: Handle of this delivery.
        attempt: Which delivery this is, from 1, where the subscription has a dead-letter policy;
            else 0.
        subscription: Full name of the subscription.
        delivered_at: Monotonic seconds.
        extend_at: Monotonic seconds at which the lease is due for extension.
        lease_until: Monotonic seconds until which the lease was last asked for.
        nacked: It will be delivered again, as it was nacked or its lease has ended.
        settling: The service is being asked to confirm an ack of this very `ack_id`.
    """

    __slots__ = (
        "ack_id",
        "attempt",
        "delivered_at",
        "extend_at",
        "lease_until",
        "message",
        "message_id",
        "nacked",
        "settler",
        "settling",
        "subscription",
    )

    def __init__(
        self,
        message: Proto,
        ack_id: str,
        attempt: int,
        subscription: str,
        settler: Settler,
    ) -> None:
        self.message = message
        self.message_id: str = message.message_id
        self.ack_id = ack_id
        self.attempt = attempt
        self.subscription = subscription
        self.settler = settler
        self.delivered_at = 0.0
        self.extend_at = 0.0
        self.lease_until = 0.0
        self.nacked = False
        self.settling = False

    def __repr__(self) -> str:
        return f"Delivery(message_id={self.message_id!r}, attempt={self.attempt})"


Batch: TypeAlias = tuple[Delivery, ...]
"""Deliveries that one call of a handler takes together, at least one."""


class LeaseTable:
    """The deliveries that this client holds, and when each lease has to be extended.

    A message is held once: when it is delivered again while a copy is held, because its lease has
    ended on the server's side, the copy goes on under the new `ack_id`. Times are monotonic
    seconds, given by the caller.
    """

    def __init__(self, *, lease_seconds: int, longest_seconds: float) -> None:
        self._shortest_seconds = lease_seconds
        self._longest_seconds = longest_seconds
        self._held: dict[str, Delivery] = {}
        self._handling_seconds: deque[float] = deque(maxlen=_HISTORY)
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, delivery: Delivery) -> bool:
        return self._held.get(delivery.message_id) is delivery

    @property
    def lease_seconds(self) -> int:
        """Lease to ask for: the 99th percentile of recent handling times, within 600 s."""
        if not self._handling_seconds:
            return self._shortest_seconds
        ranked = sorted(self._handling_seconds)
        needed = ranked[int(0.99 * (len(ranked) - 1))]
        return int(min(600, max(self._shortest_seconds, needed)))

    def begin(self, deliveries: Iterable[Delivery], *, now: float) -> list[Delivery]:
        """Take over deliveries that have just arrived under the shortest lease.

        Returns:
            Those of messages that are not held already.
        """
        extend_at = now + spread(self._shortest_seconds, low=0.4, high=0.6)
        lease_until = now + self._shortest_seconds
        begun = []
        for delivery in deliveries:
            held = self._held.get(delivery.message_id)
            if held is not None and not held.settling:
                held.ack_id, held.attempt = delivery.ack_id, delivery.attempt
                held.extend_at, held.lease_until = extend_at, lease_until
                continue
            if held is not None:
                self.end(held)
            delivery.delivered_at = now
            delivery.extend_at, delivery.lease_until = extend_at, lease_until
            self._held[delivery.message_id] = delivery
            self.held_bytes += len(delivery.message.data)
            begun.append(delivery)
        return begun

    def end(self, delivery: Delivery) -> None:
        """Let go of a delivery; once is enough."""
        if delivery in self:
            del self._held[delivery.message_id]
            self.held_bytes -= len(delivery.message.data)

    def end_these(self, deliveries: Iterable[Delivery]) -> None:
        """Let go of several."""
        held, ended_bytes = self._held, 0
        for delivery in deliveries:
            if held.get(delivery.message_id) is delivery:
                del held[delivery.message_id]
                ended_bytes += len(delivery.message.data)
        self.held_bytes -= ended_bytes

    def still_held(self, deliveries: Iterable[Delivery]) -> Batch:
        """Those of some deliveries that have not been let go."""
        held = self._held
        return tuple([one for one in deliveries if held.get(one.message_id) is one])

    def end_all(self) -> list[Delivery]:
        """Let go of everything and return it."""
        held = list(self._held.values())
        self._held.clear()
        self.held_bytes = 0
        return held

    def at_least(self, seconds: int) -> None:
        """Ask for no lease below this."""
        self._shortest_seconds = max(self._shortest_seconds, seconds)

    def learn(self, handling_seconds: float) -> None:
        """Remember how long a handler took."""
        self._handling_seconds.append(handling_seconds)

    def take_due(self, *, now: float) -> tuple[int, list[Delivery]]:
        """Leases to extend now: for how many seconds, and which. They are marked as extended."""
        due = [delivery for delivery in self._held.values() if delivery.extend_at <= now]
        if not due:
            return 0, due
        lease_seconds = self.lease_seconds
        extend_at = now + spread(lease_seconds, low=0.4, high=0.6)
        for delivery in due:
            delivery.extend_at, delivery.lease_until = extend_at, now + lease_seconds
        return lease_seconds, due

    def take_expired(self, *, now: float) -> list[Delivery]:
        """Leases that were extended for as long as is allowed; they are let go."""
        oldest = now - self._longest_seconds
        expired = [delivery for delivery in self._held.values() if delivery.delivered_at <= oldest]
        for delivery in expired:
            self.end(delivery)
        return expired


class DeliveryQueue:
    """Deliveries waiting for a worker.

    Attributes:
        ordered: At most one delivery of an ordering key is out at a time.
    """

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self._ready: deque[Delivery] = deque()
        self._behind: dict[str, deque[Delivery]] = {}
        self._gathering: list[list[Delivery]] = []
        self._idle: deque[asyncio.Future[None]] = deque()

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Queue deliveries in order."""
        for delivery in deliveries:
            key = delivery.message.ordering_key if self.ordered else ""
            if key and key in self._behind:
                self._behind[key].append(delivery)
                continue
            if key:
                self._behind[key] = deque()
            self._ready.append(delivery)
        self._wake(len(self._ready))

    async def get(self) -> Delivery:
        """Wait for the next delivery. Each must be given back to `done`."""
        while not self._ready:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            try:
                await idle
            except asyncio.CancelledError:
                if idle.done() and not idle.cancelled():
                    self._wake(1)
                raise
        return self._ready.popleft()

    async def get_batch(self, *, max_size: int, wait_seconds: float) -> list[Delivery]:
        """Wait for a delivery, and then for more to go with it.

        Args:
            max_size: Most deliveries.
            wait_seconds: How long to wait for more after the first.

        Returns:
            Up to `max_size` deliveries in their order, to be given back to `done_batch`; none if
            `take_all` took them out meanwhile.
        """
        batch = [await self.get()]
        self._gathering.append(batch)
        try:
            async with asyncio.timeout(wait_seconds):
                while self._fill(batch, max_size):
                    batch.append(await self.get())
        except TimeoutError:
            self._fill(batch, max_size)
        finally:
            self._gathering = [other for other in self._gathering if other is not batch]
        return batch

    def _fill(self, batch: list[Delivery], max_size: int) -> bool:
        while self._ready and len(batch) < max_size:
            batch.append(self._ready.popleft())
        return len(batch) < max_size

    def done_batch(self, batch: Iterable[Delivery]) -> list[Delivery]:
        """Let the next messages of a batch's keys go; see `done` for what is returned."""
        batch = list(batch)
        released: list[Delivery] = []
        if self._behind:
            released = [after for delivery in batch for after in self.done(delivery)]
        if self.ordered:
            return released
        keys = {d.message.ordering_key for d in batch if d.nacked} - {""}
        if not keys:
            return released
        behind = [d for d in self._ready if d.message.ordering_key in keys]
        self._ready = deque(d for d in self._ready if d.message.ordering_key not in keys)
        return [*released, *behind]

    def done(self, delivery: Delivery) -> list[Delivery]:
        """Let the next message of the same key go.

        Returns:
            Deliveries that must be released: the service sends a nacked message of a key again
            together with those behind it, so handling these now would break the order.
        """
        key = delivery.message.ordering_key
        if not key or key not in self._behind:
            return []
        behind = self._behind[key]
        if delivery.nacked or not behind:
            del self._behind[key]
            return list(behind)
        self._ready.append(behind.popleft())
        self._wake(1)
        return []

    def take_all(self) -> list[Delivery]:
        """Take out everything that waits."""
        waiting = [*self._ready]
        for batch in self._gathering:
            waiting.extend(batch)
            batch.clear()
        for behind in self._behind.values():
            waiting.extend(behind)
            behind.clear()
        self._ready.clear()
        return waiting

    def _wake(self, count: int) -> None:
        while count and self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                count -= 1
