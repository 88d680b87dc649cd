"""What a subscription is, against what its subscriber declares."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from faststream_pubsub.wire import Proto


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting that is not as declared.

    Attributes:
        setting: Its name, as for `subscriber`.
        field: The field of `google.pubsub.v1.Subscription` that has it.
        declared: What the code asks for.
        found: What the service has.
    """

    setting: str
    field: str
    declared: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.setting}: declared {self.declared!r}, found {self.found!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    name: str
    field: str
    read: Callable[[Proto], Any]
    default: Any = None


def _backoff_seconds(subscription: Proto) -> tuple[float, float] | None:
    if not subscription.HasField("retry_policy"):
        return None
    policy = subscription.retry_policy
    return _seconds(policy.minimum_backoff), _seconds(policy.maximum_backoff)


def _attempts(subscription: Proto) -> int | None:
    policy = subscription.dead_letter_policy
    return (policy.max_delivery_attempts or 5) if policy.dead_letter_topic else None


def _seconds(duration: Duration) -> float:
    return float(duration.ToMilliseconds()) / 1_000


_FIXED: Final = (
    _Setting(name="filter", field="filter", read=lambda s: s.filter.strip(), default=""),
    _Setting(
        name="enable_message_ordering",
        field="enable_message_ordering",
        read=lambda s: s.enable_message_ordering,
        default=False,
    ),
)
_CHANGEABLE: Final = (
    _Setting(
        name="ack_deadline_seconds",
        field="ack_deadline_seconds",
        read=lambda s: s.ack_deadline_seconds or 10,
        default=10,
    ),
    _Setting(
        name="enable_exactly_once_delivery",
        field="enable_exactly_once_delivery",
        read=lambda s: s.enable_exactly_once_delivery,
        default=False,
    ),
    _Setting(name="retry_policy", field="retry_policy", read=_backoff_seconds),
    _Setting(
        name="dead_letter_topic",
        field="dead_letter_policy",
        read=lambda s: s.dead_letter_policy.dead_letter_topic or None,
    ),
    _Setting(
        name="max_delivery_attempts",
        field="dead_letter_policy",
        read=_attempts,
    ),
)


def fixed_differences(declared: Proto, found: Proto, *, is_owned: bool) -> list[Difference]:
    """Differences that no update can mend.

    Args:
        declared: A `google.pubsub.v1.Subscription` as the subscriber declares it.
        found: The one that is there.
        is_owned: The code declares the whole subscription. Else it reads one that somebody else
            has made, and only what it declares against the default is compared.
    """
    differences = _differences(_FIXED, declared, found, is_owned=is_owned)
    # a subscription with more order than is asked for does no harm: this client keeps it
    return [d for d in differences if d.setting != "enable_message_ordering" or d.declared]


def changeable_differences(declared: Proto, found: Proto, *, is_owned: bool) -> list[Difference]:
    """Differences that an update can mend; see `fixed_differences`."""
    return _differences(_CHANGEABLE, declared, found, is_owned=is_owned)


def told(differences: Iterable[Difference]) -> str:
    """All of them in one line."""
    return "; ".join(map(str, differences))


def _differences(
    settings: Iterable[_Setting], declared: Proto, found: Proto, *, is_owned: bool
) -> list[Difference]:
    pairs = [(one, one.read(declared), one.read(found)) for one in settings]
    return [
        Difference(setting=one.name, field=one.field, declared=wanted, found=present)
        for one, wanted, present in pairs
        if wanted != present and (is_owned or wanted != one.default)
    ]
