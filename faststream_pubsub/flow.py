"""How much may be on its way to the service at a time."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal

from faststream.exceptions import SetupError

from faststream_pubsub.errors import FlowControlError


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFlow:
    """Limits of what is published but not yet confirmed.

    Attributes:
        max_messages: Most messages.
        max_bytes: Most bytes. A message that is bigger by itself goes alone.
        when_full: What `publish` does at a limit: `block` waits for room, in the order of the
            calls; `raise` raises `FlowControlError`; `ignore` goes on, and memory is the limit.
    """

    max_messages: int = 10_000
    max_bytes: int = 100 * 1024 * 1024
    when_full: Literal["block", "raise", "ignore"] = "block"

    def __post_init__(self) -> None:
        for setting in ("max_messages", "max_bytes"):
            if getattr(self, setting) < 1:
                raise SetupError(
                    f"publish_flow.{setting}={getattr(self, setting)!r} is out of range: "
                    "at least 1 is needed.",
                )
        if self.when_full not in {"block", "raise", "ignore"}:
            raise SetupError(
                f"publish_flow.when_full={self.when_full!r} is unknown: "
                "'block', 'raise' and 'ignore' are allowed.",
            )


class FlowGate:
    """Counts what is on its way, and holds back what is too much."""

    def __init__(self, limits: PublishFlow) -> None:
        self._limits = limits
        self._messages = 0
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def enter(self, size_bytes: int) -> bool:
        """Let a message through, or return False where it has to `wait`.

        Raises:
            FlowControlError: There is no room, and the limits say to raise.
        """
        if self._limits.when_full != "ignore" and (self._waiting or not self._has_room(size_bytes)):
            if self._limits.when_full == "raise":
                raise FlowControlError(
                    f"no room for a message of {size_bytes:,} bytes: {self._messages:,} messages "
                    f"with {self._bytes:,} bytes are not confirmed yet (max_messages="
                    f"{self._limits.max_messages:,}, max_bytes={self._limits.max_bytes:,}). "
                    "Wait for earlier publications, raise the limits, or use when_full='block'.",
                )
            return False
        self._count(size_bytes)
        return True

    async def wait(self, size_bytes: int) -> None:
        """Wait for room behind all who wait already, and take it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(1, size_bytes)
            else:
                self._admit()
            raise

    def leave(self, messages: int, size_bytes: int) -> None:
        """Make room for others."""
        self._messages -= messages
        self._bytes -= size_bytes
        self._admit()

    def _admit(self) -> None:
        waiting = self._waiting
        while waiting and (waiting[0][1].done() or self._has_room(waiting[0][0])):
            size_bytes, turn = waiting.popleft()
            if not turn.done():
                self._count(size_bytes)
                turn.set_result(None)

    def _has_room(self, size_bytes: int) -> bool:
        return self._messages == 0 or (
            self._messages < self._limits.max_messages
            and self._bytes + size_bytes <= self._limits.max_bytes
        )

    def _count(self, size_bytes: int) -> None:
        self._messages += 1
        self._bytes += size_bytes
