"""What the server has: topics, subscriptions, snapshots, and which messages each one holds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from embedded_pubsub import limits
from embedded_pubsub.changes import Change, PutMessage
from embedded_pubsub.delivery import Backlog
from embedded_pubsub.filters import Predicate
from embedded_pubsub.log import Cursor, Log, Message
from embedded_pubsub.protos import Proto

USED_EVERY_SECONDS = 3600.0
"""By how much the store may know too little of when a subscription was last used."""


@dataclass(slots=True, eq=False)
class TopicState:
    """A topic, its log, and who reads that.

    `readers` are the places in the log of all that hold what is published: subscriptions without
    a filter, snapshots, and (under the topic's own number) the topic's retention. Subscriptions
    with a filter are handed what matches.
    """

    number: int
    config: Proto
    log: Log = field(default_factory=Log)
    subscriptions: "dict[int, SubscriptionState]" = field(default_factory=dict)
    filtered: "dict[int, SubscriptionState]" = field(default_factory=dict)
    snapshots: "dict[int, SnapshotState]" = field(default_factory=dict)
    readers: dict[int, Cursor] = field(default_factory=dict)

    @property
    def retained(self) -> Cursor | None:
        """What the topic keeps by itself; None where its retention is not set."""
        return self.readers.get(self.number)

    def retention_seconds(self) -> float:
        """Give for how long the topic keeps what is published, 0 for not at all."""
        return limits.seconds_of(self.config.message_retention_duration)


@dataclass(slots=True, eq=False)
class SubscriptionState:
    """A subscription: its settings, what it owes, and the acknowledged messages that it retains.

    `used` is when somebody last did something with it (after a restart: at the latest),
    `used_saved` what the store knows of it; None until that is known. `armed` is when its next
    deadline is looked at.
    """

    number: int
    topic: int
    start: int
    config: Proto
    matches: Predicate
    backlog: Backlog
    retained: dict[int, Message] = field(default_factory=dict)
    deleted: bool = False
    used: float | None = None
    used_saved: float | None = None
    armed: float = float("inf")

    def is_unused(self, now: float) -> bool:
        """Tell whether nobody used it for as long as its expiration policy allows."""
        policy = self.config.expiration_policy
        if self.used is None or not policy.HasField("ttl"):
            return False
        return now - self.used > limits.seconds_of(policy.ttl)

    def retention_seconds(self) -> float:
        """Give for how long unacknowledged messages (and retained ones) are kept."""
        return limits.seconds_of(self.config.message_retention_duration)


@dataclass(slots=True, eq=False)
class SnapshotState:
    """A snapshot: the messages that a seek to it brings back.

    `backlog` was unacknowledged when it was made; `later` is what came after.
    """

    number: int
    topic: int
    config: Proto
    later: Cursor
    backlog: dict[int, Message] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the messages."""
        return len(self.backlog) + len(self.later)

    def messages(self) -> Iterator[Message]:
        """Give the messages in the order of publishing."""
        return chain(self.backlog.values(), self.later)


@dataclass(frozen=True, slots=True)
class Publication:
    """Messages that were accepted and numbered but are not delivered before they are durable.

    `attributes` is empty where no subscription asks for them.
    """

    topic: TopicState
    messages: Sequence[Message]
    attributes: Sequence[Mapping[str, str]]

    def message_ids(self) -> list[str]:
        """Give the ids that the publisher is told."""
        return [str(message.seq) for message in self.messages]

    def changes(self) -> list[Change]:
        """Give what must be durable before the publisher is told."""
        return [
            PutMessage(m.seq, m.topic, m.publish_time, m.ordering_key, m.size, m.body or b"")
            for m in self.messages
        ]
