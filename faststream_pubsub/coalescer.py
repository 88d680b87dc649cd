"""Many small sends become few calls, without waiting for a timer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Coalescer(Generic[Item]):
    """Sends what is waiting in one call; what comes while it is in flight goes with the next.

    Alone, an item leaves at once, unless it is to wait for others; under load, batches grow by
    themselves, and once there are more items than go into one call, further calls are in flight
    at the same time if that is allowed. With one in flight, the order of items is the order of
    calls. Tasks live only as long as there is something to send.
    """

    __slots__ = (
        "_flushing",
        "_full",
        "_linger_seconds",
        "_max_in_flight",
        "_max_items",
        "_max_weight",
        "_rest_seconds",
        "_send",
        "_tasks",
        "_waiting",
        "_weigh",
        "_weight",
    )

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[None]],
        *,
        max_items: int,
        weigh: Callable[[Item], int] | None = None,
        max_weight: int = 0,
        rest_seconds: float = 0.0,
        linger_seconds: float = 0.0,
        max_in_flight: int = 1,
    ) -> None:
        """Prepare an idle coalescer.

        Args:
            send: Sends one batch; it must not raise, as nobody waits for its result.
            max_items: Most items in one call.
            weigh: Weight of an item, bytes for instance; None if only the count matters.
            max_weight: Most weight in one call, if there is more than one item.
            rest_seconds: Pause after a call, so that more items gather for the next.
            linger_seconds: How long a call waits for more items before it is sent, unless it is
                full, or flushed.
            max_in_flight: Most calls at a time.
        """
        self._send = send
        self._max_items = max_items
        self._weigh = weigh
        self._max_weight = max_weight
        self._rest_seconds = rest_seconds
        self._linger_seconds = linger_seconds
        self._full = asyncio.Event()
        self._flushing = False
        self._weight = 0  # of what waits; counted only where that lingers
        self._waiting: deque[Item] = deque()
        self._max_in_flight = max_in_flight
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return not self._tasks

    def add(self, item: Item) -> None:
        """Queue one item."""
        self._waiting.append(item)
        if self._linger_seconds:
            self._count((item,))
        if not self._tasks or len(self._waiting) > self._max_items:
            self._begin()

    def extend(self, items: Sequence[Item]) -> None:
        """Queue several items, kept in order."""
        if not items:
            return
        self._waiting.extend(items)
        if self._linger_seconds:
            self._count(items)
        if not self._tasks or len(self._waiting) > self._max_items:
            self._begin()

    def take_waiting(self) -> list[Item]:
        """Take back what has not been sent yet."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._weight = 0
        return taken

    async def flush(self) -> None:
        """Send everything that was queued, and wait until that is done."""
        self._flushing = True
        self._full.set()
        try:
            while self._tasks:
                await asyncio.wait(tuple(self._tasks))
        finally:
            self._flushing = False

    async def abort(self) -> None:
        """Drop what waits and cancel what is in flight."""
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _begin(self) -> None:
        wanted = min(self._max_in_flight, 1 + len(self._waiting) // self._max_items)
        while len(self._tasks) < wanted:
            task = asyncio.create_task(self._drain())
            self._tasks.add(task)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                if self._linger_seconds and not await self._linger():
                    break
                await self._send(self._next_batch())
                if self._rest_seconds:
                    await asyncio.sleep(self._rest_seconds)
        finally:
            # a callback would be too late for what is added before it runs
            self._tasks -= {asyncio.current_task()}

    async def _linger(self) -> bool:
        """Wait for more; False if another call has taken what waited."""
        self._full.clear()
        if not (self._flushing or self._is_full()):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger_seconds):
                    await self._full.wait()
        return bool(self._waiting)

    def _count(self, items: Iterable[Item]) -> None:
        if self._weigh is not None:
            self._weight += sum(map(self._weigh, items))
        if self._is_full():
            self._full.set()

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._max_items or 0 < self._max_weight <= self._weight

    def _next_batch(self) -> list[Item]:
        waiting = self._waiting
        if self._weigh is None:
            if len(waiting) <= self._max_items:
                return self.take_waiting()
            return [waiting.popleft() for _ in range(self._max_items)]
        batch = [waiting.popleft()]
        weight = self._weigh(batch[0])
        while waiting and len(batch) < self._max_items:
            weight += self._weigh(waiting[0])
            if weight > self._max_weight:
                break
            batch.append(waiting.popleft())
        if self._linger_seconds:
            self._weight -= sum(map(self._weigh, batch))
        return batch
