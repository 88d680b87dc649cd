"""Notices a stream that is open but dead, and says how a subscription is doing."""

from dataclasses import dataclass
from typing import Final

BEAT_SECONDS: Final = 30.0
"""How often this client says on a stream that it is there."""
ANSWER_SECONDS: Final = 15.0
"""How soon a server that answers to beats does so."""
SETTLED_SECONDS: Final = 2.0
"""An open stream that has not failed so far counts as living: refusals come sooner."""
GRACE_SECONDS: Final = 30.0
"""How long a subscription may be without a stream before it counts as unhealthy."""


class StreamWatch:
    """Remembers when a stream was heard; times are monotonic seconds, given by the caller."""

    def __init__(self, *, max_silence_seconds: float) -> None:
        """Prepare a watch.

        Args:
            max_silence_seconds: Longest silence of a server that does not answer to beats; an idle
                subscription is silent too.
        """
        self._max_silence_seconds = max_silence_seconds
        self._is_open = False
        self._is_paused = False
        self._answers_beats = False
        self._opened_at = 0.0
        self._heard_at = 0.0
        self._down_since: float | None = None

    @property
    def allowed_seconds(self) -> float:
        """How long the stream may be silent."""
        if self._answers_beats:
            return min(self._max_silence_seconds, BEAT_SECONDS + ANSWER_SECONDS)
        return self._max_silence_seconds

    def opened(self, now: float) -> None:
        """A stream was opened; it counts as living when it was heard, or has not failed at once."""
        self._is_open = True
        self._is_paused = False
        self._opened_at = self._heard_at = now
        if self._down_since is None:
            self._down_since = now

    def heard(self, now: float, *, has_content: bool) -> None:
        """A response came; one without content can only be the answer to a beat."""
        self._heard_at = now
        self._down_since = None
        if not has_content:
            self._answers_beats = True

    def paused(self) -> None:
        """This client does not read for now, so silence means nothing."""
        self._is_paused = True

    def resumed(self, now: float) -> None:
        """This client reads again."""
        self._is_paused = False
        self._heard_at = now

    def closed(self, now: float) -> None:
        """The stream has ended."""
        self._is_open = False
        if self._down_since is None:
            self._down_since = now

    def check(self, now: float) -> bool:
        """Look at an open stream now and then; tell whether it has been silent for too long."""
        if self._is_open and now - self._opened_at >= SETTLED_SECONDS:
            self._down_since = None
        if not self._is_open or self._is_paused:
            return False
        return now - self._heard_at > self.allowed_seconds

    def down_seconds(self, now: float) -> float:
        """How long there has been no living stream; 0 if there is one."""
        return 0.0 if self._down_since is None else now - self._down_since


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionHealth:
    """How one subscription is doing.

    Attributes:
        subscription: Its name, as declared, with the router's prefix.
        down_seconds: How long it has had no living stream; 0 if it has one.
        held_messages: Messages that are leased: running handlers, and what waits for them.
        lost_leases: Leases that have ended before their message was settled, so far.
        failed_acks: Messages that the service did not let be acknowledged, so far.
    """

    subscription: str
    down_seconds: float
    held_messages: int
    lost_leases: int = 0
    failed_acks: int = 0

    @property
    def is_healthy(self) -> bool:
        """A stream lives, or has not been gone for long."""
        return self.down_seconds < GRACE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class PubSubHealth:
    """How a broker is doing, without a word to the server.

    Attributes:
        is_connected: The broker is connected and not stopped.
        subscriptions: Those that are being read.
    """

    is_connected: bool
    subscriptions: tuple[SubscriptionHealth, ...]

    @property
    def is_healthy(self) -> bool:
        """What a liveness probe asks."""
        return self.is_connected and all(one.is_healthy for one in self.subscriptions)
