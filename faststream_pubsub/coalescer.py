"""Many small sends become few calls, without waiting for a timer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Coalescer(Generic[Item]):
    """Sends what is waiting in one call; what comes while it is in flight goes with the next.

    Alone, an item leaves at once; under load, batches grow by themselves. The order of items is
    the order of calls. The task lives only as long as there is something to send.
    """

    __slots__ = (
        "_max_items",
        "_max_weight",
        "_rest_seconds",
        "_send",
        "_task",
        "_waiting",
        "_weigh",
    )

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[None]],
        *,
        max_items: int,
        weigh: Callable[[Item], int] | None = None,
        max_weight: int = 0,
        rest_seconds: float = 0.0,
    ) -> None:
        """Prepare an idle coalescer.

        Args:
            send: Sends one batch; it must not raise, as nobody waits for its result.
            max_items: Most items in one call.
            weigh: Weight of an item, bytes for instance; None if only the count matters.
            max_weight: Most weight in one call, if there is more than one item.
            rest_seconds: Pause after a call, so that more items gather for the next.
        """
        self._send = send
        self._max_items = max_items
        self._weigh = weigh
        self._max_weight = max_weight
        self._rest_seconds = rest_seconds
        self._waiting: deque[Item] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return self._task is None

    def add(self, item: Item) -> None:
        """Queue one item."""
        self._waiting.append(item)
        if self._task is None:
            self._task = asyncio.create_task(self._drain())

    def extend(self, items: Sequence[Item]) -> None:
        """Queue several items, kept in order."""
        if not items:
            return
        self._waiting.extend(items)
        if self._task is None:
            self._task = asyncio.create_task(self._drain())

    def take_waiting(self) -> list[Item]:
        """Take back what has not been sent yet."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    async def flush(self) -> None:
        """Wait until everything that was queued has been sent."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def abort(self) -> None:
        """Drop what waits and cancel what is in flight."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._send(self._next_batch())
                if self._rest_seconds:
                    await asyncio.sleep(self._rest_seconds)
        finally:
            self._task = None

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
        return batch
