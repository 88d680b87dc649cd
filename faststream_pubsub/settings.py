"""What a subscriber asks of its subscription and of this client."""

from dataclasses import dataclass
from typing import Final

from faststream.exceptions import SetupError

from faststream_pubsub import wire
from faststream_pubsub.filters import compile_filter
from faststream_pubsub.wire import Proto

MIN_DEADLINE_SECONDS: Final = 10
MAX_DEADLINE_SECONDS: Final = 600
EXACTLY_ONCE_DEADLINE_SECONDS: Final = 60
"""Shortest lease under exactly-once delivery that the service recommends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long the service waits before it delivers a nacked or expired message again.

    Attributes:
        minimum_backoff_seconds: First wait, 0 to 600.
        maximum_backoff_seconds: Longest wait, 0 to 600.
    """

    minimum_backoff_seconds: float = 10.0
    maximum_backoff_seconds: float = 600.0

    def __post_init__(self) -> None:
        check_range("retry_policy.minimum_backoff_seconds", self.minimum_backoff_seconds, 0, 600)
        check_range("retry_policy.maximum_backoff_seconds", self.maximum_backoff_seconds, 0, 600)
        if self.minimum_backoff_seconds > self.maximum_backoff_seconds:
            raise SetupError(
                f"retry_policy: minimum_backoff_seconds={self.minimum_backoff_seconds} is above "
                f"maximum_backoff_seconds={self.maximum_backoff_seconds}.",
            )


def default_max_messages(*, batch: bool, max_batch_size: int) -> int:
    """As many as Google's client; with batches, enough to deliver some while others are handled.

    With four batches the stream stood still while acknowledgements were on their way.
    """
    if not batch:
        return 1_000
    check_count("max_batch_size", max_batch_size, 1, 1_000_000)
    return min(max(1_000, 8 * max_batch_size), 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSettings:
    """Settings of one subscriber; every wrong value is an error at declaration.

    Attributes:
        ack_deadline_seconds: Lease of a delivered message, 10 to 600. It is extended while the
            handler runs.
        enable_message_ordering: Deliver messages of one ordering key in order.
        enable_exactly_once_delivery: No redelivery of a message whose ack was confirmed.
        filter: Pub/Sub filter over attributes; empty for none.
        retry_policy: Wait before redelivery; None redelivers at once.
        dead_letter_topic: Where messages go after too many tries, and when rejected.
        max_delivery_attempts: Tries before the service moves a message there, 5 to 100.
        max_messages: Most messages leased at a time, running handlers included.
        max_bytes: Most bytes leased at a time.
        max_workers: Most handlers running at a time.
        max_lease_seconds: How long a lease is extended at most, counted from delivery.
        max_silence_seconds: How long a stream may be silent before it is opened anew.
        batch: Hand messages to the handler in batches.
        max_batch_size: Most messages in a batch.
        max_batch_wait_seconds: How long a batch waits for more messages after its first.
        autocreate: Create topic and subscription; None takes the broker's setting.
        autoupdate: Change the settings of a subscription that is there to those declared; None
            takes the broker's setting.
    """

    ack_deadline_seconds: int = 10
    enable_message_ordering: bool = False
    enable_exactly_once_delivery: bool = False
    filter: str = ""
    retry_policy: RetryPolicy | None = None
    dead_letter_topic: str | None = None
    max_delivery_attempts: int = 5
    max_messages: int = 1_000
    max_bytes: int = 100 * 1024 * 1024
    max_workers: int = 1
    max_lease_seconds: float = 3_600.0
    max_silence_seconds: float = 300.0
    batch: bool = False
    max_batch_size: int = 100
    max_batch_wait_seconds: float = 0.1
    autocreate: bool | None = None
    autoupdate: bool | None = None

    def __post_init__(self) -> None:
        check_count(
            "ack_deadline_seconds",
            self.ack_deadline_seconds,
            MIN_DEADLINE_SECONDS,
            MAX_DEADLINE_SECONDS,
        )
        check_count("max_delivery_attempts", self.max_delivery_attempts, 5, 100)
        check_count("max_messages", self.max_messages, 1, 1_000_000)
        check_count("max_bytes", self.max_bytes, 1, 2**40)
        check_count("max_workers", self.max_workers, 1, 10_000)
        check_range("max_lease_seconds", self.max_lease_seconds, 1, 7 * 86_400)
        check_range("max_silence_seconds", self.max_silence_seconds, 1, 86_400)
        for switch in ("enable_message_ordering", "enable_exactly_once_delivery", "batch"):
            if not isinstance(getattr(self, switch), bool):
                raise SetupError(f"{switch}={getattr(self, switch)!r} must be True or False.")
        self._check_batch()
        if self.dead_letter_topic is None and self.max_delivery_attempts != 5:
            raise SetupError(
                f"max_delivery_attempts={self.max_delivery_attempts} needs a dead_letter_topic: "
                "without one, the service delivers a message for ever.",
            )
        if self.retry_policy is not None and not isinstance(self.retry_policy, RetryPolicy):
            raise SetupError(f"retry_policy={self.retry_policy!r} must be a RetryPolicy.")
        compile_filter(self.filter)
        if self.max_workers > self.max_messages:
            raise SetupError(
                f"max_workers={self.max_workers} can't be busy with "
                f"max_messages={self.max_messages}: raise max_messages to at least max_workers.",
            )

    def _check_batch(self) -> None:
        if not self.batch:
            for setting, default in (("max_batch_size", 100), ("max_batch_wait_seconds", 0.1)):
                if getattr(self, setting) != default:
                    raise SetupError(f"{setting}={getattr(self, setting)!r} needs batch=True.")
            return
        check_count("max_batch_size", self.max_batch_size, 1, self.max_messages)
        check_range("max_batch_wait_seconds", self.max_batch_wait_seconds, 0, 60)
        if self.enable_message_ordering and self.max_workers > 1:
            raise SetupError(
                f"batch=True with enable_message_ordering=True and max_workers={self.max_workers} "
                "can't keep the order of a key: set max_workers=1, or batch=False.",
            )

    @property
    def lease_seconds(self) -> int:
        """Shortest lease that this client asks for."""
        if self.enable_exactly_once_delivery:
            return max(EXACTLY_ONCE_DEADLINE_SECONDS, self.ack_deadline_seconds)
        return self.ack_deadline_seconds

    def as_subscription(self, *, name: str, topic: str, dead_letter_topic: str | None) -> Proto:
        """Render a `google.pubsub.v1.Subscription`; all names are full names."""
        subscription = wire.Subscription(
            name=name,
            topic=topic,
            ack_deadline_seconds=self.ack_deadline_seconds,
            enable_message_ordering=self.enable_message_ordering,
            enable_exactly_once_delivery=self.enable_exactly_once_delivery,
            filter=self.filter,
        )
        if self.retry_policy is not None:
            subscription.retry_policy.minimum_backoff.FromNanoseconds(
                round(self.retry_policy.minimum_backoff_seconds * 1e9),
            )
            subscription.retry_policy.maximum_backoff.FromNanoseconds(
                round(self.retry_policy.maximum_backoff_seconds * 1e9),
            )
        if dead_letter_topic is not None:
            subscription.dead_letter_policy.dead_letter_topic = dead_letter_topic
            subscription.dead_letter_policy.max_delivery_attempts = self.max_delivery_attempts
        return subscription


def check_range(setting: str, value: object, low: float, high: float) -> None:
    """Check a number.

    Raises:
        SetupError: It is none, or out of range; the text names setting, value and range.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SetupError(f"{setting}={value!r} is no number: {low} to {high} is allowed.")
    if not low <= value <= high:
        raise SetupError(f"{setting}={value!r} is out of range: {low} to {high} is allowed.")


def check_count(setting: str, value: object, low: int, high: int) -> None:
    """Check a whole number; see `check_range`."""
    check_range(setting, value, low, high)
    if not isinstance(value, int):
        raise SetupError(f"{setting}={value!r} is no whole number: {low} to {high} is allowed.")
