"""How much goes to the service in one request, and how much may be on its way at a time."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from faststream.exceptions import SetupError

from faststream_pubsub import wire
from faststream_pubsub.errors import FlowControlError
from faststream_pubsub.settings import check_range

Item = TypeVar("Item")


# what a request adds around its messages stays far below the difference
MAX_BATCH_BYTES: Final = wire.MAX_REQUEST_BYTES - 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishBatching:
    """When a publish request is sent: as soon as one of these is reached.

    Concurrent publications share requests even without a latency: what comes while a request is
    in flight goes with the next.

    Attributes:
        max_messages: Messages in a request, 1 to 1,000.
        max_bytes: Bytes of messages in a request. A message that is bigger by itself goes alone.
        max_latency_seconds: How long a message waits for others at most, 0 to 60; 0: not at all.
    """

    max_messages: int = wire.MAX_PUBLISH_MESSAGES
    max_bytes: int = MAX_BATCH_BYTES
    max_latency_seconds: float = 0.0

    def __post_init__(self) -> None:
        name = "publish_batching"
        check_range(f"{name}.max_messages", self.max_messages, 1, wire.MAX_PUBLISH_MESSAGES)
        check_range(f"{name}.max_bytes", self.max_bytes, 1, MAX_BATCH_BYTES)
        check_range(f"{name}.max_latency_seconds", self.max_latency_seconds, 0, 60)


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


class FlowGate(Generic[Item]):
    """Counts what is on its way, and holds back what is too much."""

    def __init__(self, limits: PublishFlow, begin: Callable[[Item], bool]) -> None:
        """Open the gate.

        Args:
            limits: What may be on its way.
            begin: Called with what has waited when there is room for it; False: it gave up.
        """
        self._limits = limits
        self._begin = begin
        self._messages = 0
        self._bytes = 0
        self._waiting: deque[tuple[int, Item]] = deque()

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

    def wait(self, size_bytes: int, item: Item) -> None:
        """Have an item begun when there is room, behind all that wait already."""
        self._waiting.append((size_bytes, item))

    def take_waiting(self) -> list[Item]:
        """Take back what waits."""
        items = [item for _, item in self._waiting]
        self._waiting.clear()
        return items

    def leave(self, messages: int, size_bytes: int) -> None:
        """Make room for others."""
        self._messages -= messages
        self._bytes -= size_bytes
        self._admit()

    def _admit(self) -> None:
        waiting = self._waiting
        while waiting and self._has_room(waiting[0][0]):
            size_bytes, item = waiting.popleft()
            if self._begin(item):
                self._count(size_bytes)

    def _has_room(self, size_bytes: int) -> bool:
        return self._messages == 0 or (
            self._messages < self._limits.max_messages
            and self._bytes + size_bytes <= self._limits.max_bytes
        )

    def _count(self, size_bytes: int) -> None:
        self._messages += 1
        self._bytes += size_bytes
