"""How a stop waits for the handlers that run."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from faststream_pubsub._faststream import MultiLock


class HandlerLock(MultiLock):
    """Counts running handlers, and waits for their end."""

    __slots__ = ("_released", "_running")

    def __init__(self) -> None:
        super().__init__()
        self._running = 0
        self._released = asyncio.Event()

    def __enter__(self) -> Self:
        self._running += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Count one more."""
        self._running += 1

    def release(self) -> None:
        """Count one less."""
        self._running -= 1
        if not self._running:
            self._released.set()

    @property
    def qsize(self) -> int:
        """How many are running."""
        return self._running

    @property
    def empty(self) -> bool:
        """Whether none is running."""
        return not self._running

    async def wait_release(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - its signature
        """Wait until none is running, for `timeout` seconds; None or 0 doesn't wait."""
        if not timeout:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._running:
                    self._released.clear()
                    await self._released.wait()
