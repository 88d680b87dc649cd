"""What the server has: topics, subscriptions, snapshots, and which messages each one holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embedded_pubsub import limits
from embedded_pubsub.changes import Change, PutMessage
from embedded_pubsub.delivery import Backlog, Message
from embedded_pubsub.filters import Predicate
from embedded_pubsub.protos import Proto


@dataclass(slots=True, eq=False)
class TopicState:
    """A topic, who listens to it, and the messages that it retains by itself."""

    number: int
    config: Proto
    subscriptions: "dict[int, SubscriptionState]" = field(default_factory=dict)
    snapshots: "dict[int, SnapshotState]" = field(default_factory=dict)
    retained: dict[int, Message] = field(default_factory=dict)

    def retention_seconds(self) -> float:
        """Give for how long the topic keeps what is published, 0 for not at all."""
        return limits.seconds_of(self.config.message_retention_duration)


@dataclass(slots=True, eq=False)
class SubscriptionState:
    """A subscription: its settings, what it owes, and the acknowledged messages that it retains.

    `used` is when somebody last took, or waited for, its messages; None until that is known.
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

    def is_unused(self, now: float) -> bool:
        """Tell whether nobody used it for as long as its expiration policy allows."""
        if self.used is None:
            self.used = now
        policy = self.config.expiration_policy
        return policy.HasField("ttl") and now - self.used > limits.seconds_of(policy.ttl)

    def retention_seconds(self) -> float:
        """Give for how long unacknowledged messages (and retained ones) are kept."""
        return limits.seconds_of(self.config.message_retention_duration)


@dataclass(slots=True, eq=False)
class SnapshotState:
    """A snapshot: the messages that a seek to it brings back."""

    number: int
    topic: int
    config: Proto
    messages: dict[int, Message]


@dataclass(frozen=True, slots=True)
class Publication:
    """Messages that were accepted and numbered but are not delivered before they are durable."""

    topic: TopicState
    messages: Sequence[Message]
    attributes: Sequence[Mapping[str, str]]

    def message_ids(self) -> list[str]:
        """Give the ids that the publisher is told."""
        return [str(message.seq) for message in self.messages]

    def changes(self) -> list[Change]:
        """Give what must be durable before the publisher is told."""
        return [PutMessage(m.seq, m.topic, m.body) for m in self.messages]
