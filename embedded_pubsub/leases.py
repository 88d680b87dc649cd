"""What delivery is made of: its settings, who takes messages, and what is out under which ack id.

Times are in seconds since the epoch.
"""

from collections import deque
from dataclasses import dataclass, field

from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.log import Message

UNLIMITED = 2**62


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff between redeliveries, in seconds."""

    minimum_seconds: float
    maximum_seconds: float

    def delay_seconds(self, failures: int) -> float:
        """Give the pause after that many failed deliveries, of which there is at least one."""
        doublings = min(failures - 1, 60)
        return min(self.minimum_seconds * 2.0**doublings, self.maximum_seconds)


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """The settings of a subscription that delivery depends on.

    `max_delivery_attempts` is 0 where no dead-letter policy is set.
    """

    ack_deadline_seconds: float = 10.0
    ordered: bool = False
    exactly_once: bool = False
    backoff: Backoff | None = None
    max_delivery_attempts: int = 0


@dataclass(slots=True, eq=False)
class Consumer:
    """One stream or one pull: who leases messages, and how many at once.

    `keys` are the ordering keys whose next message only this consumer may have. A consumer that
    is gone keeps what it leased until the deadlines, and then loses its keys.
    """

    max_messages: int = UNLIMITED
    max_bytes: int = UNLIMITED
    ack_deadline_seconds: float | None = None
    outstanding_messages: int = 0
    outstanding_bytes: int = 0
    keys: "dict[OrderedKey, None]" = field(default_factory=dict)

    def has_room(self) -> bool:
        """Tell whether flow control lets another message out."""
        return (
            self.outstanding_messages < self.max_messages
            and self.outstanding_bytes < self.max_bytes
        )


@dataclass(slots=True, eq=False)
class Entry:
    """A message in a subscription that has not settled yet."""

    message: Message
    failures: int = 0
    key: "OrderedKey | None" = None
    lease: "Lease | None" = None
    acked: bool = False
    settled: bool = False


@dataclass(slots=True, eq=False)
class Lease:
    """A delivery: the consumer has until `deadline` to ack; `timer` is when that is looked at.

    `transformed` is what is delivered in place of the message's body, where it is another.
    """

    ack_id: str
    entry: Entry
    consumer: Consumer
    deadline: float
    timer: float
    transformed: bytes | None = None


@dataclass(slots=True, eq=False, weakref_slot=True)
class OrderedKey:
    """The messages of one ordering key: `sent` are outstanding with one consumer, in order.

    `queued` says that the key stands in a queue of things that can be taken from.
    """

    name: str
    waiting: deque[Entry] = field(default_factory=deque)
    sent: deque[Entry] = field(default_factory=deque)
    consumer: Consumer | None = None
    queued: bool = False
    due: float = 0.0


def parse_ack_id(ack_id: str) -> tuple[int, int, int]:
    """Read an ack id: the numbers of the subscription, the message and the delivery.

    Raises:
        InvalidArgumentError: This server never made such an ack id.
    """
    parts = ack_id.split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidArgumentError(
            f"You have passed an invalid ack ID to the service (ack_id={ack_id[:100]})."
        )
    subscription, seq, delivery = map(int, parts)
    return subscription, seq, delivery
