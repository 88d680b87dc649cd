"""Everything that a server has, and who still needs which message."""

import heapq
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count

from embedded_pubsub.changes import (
    Change,
    DropMessage,
    PutSnapshot,
    PutSubscription,
    PutTopic,
)
from embedded_pubsub.delivery import Backlog
from embedded_pubsub.log import Cursor, Log, Message
from embedded_pubsub.policies import Policies
from embedded_pubsub.protos import Proto
from embedded_pubsub.resources import SnapshotState, SubscriptionState, TopicState
from embedded_pubsub.schemas import Schemas
from embedded_pubsub.settings import delivery_policy
from embedded_pubsub.store import Saved

NUMBERS_PER_OPENING = 1 << 40
"""Numbers of one opening of the store never meet those of another, so that no id comes twice."""

Read = Callable[[Sequence[int]], Mapping[int, bytes]]


class Holdings:
    """What there is, under its name and its number.

    `changes` is what must be made durable; `deliverable` are the subscriptions, and `published`
    the topics, that may have something new to hand out.

    Args:
        saved: What the store held when it was opened.
        resident_bytes: Bodies beyond so many bytes are left to the store.
    """

    def __init__(self, saved: Saved, resident_bytes: float = float("inf")) -> None:
        self.topics: dict[str, TopicState] = {}
        self.subscriptions: dict[str, SubscriptionState] = {}
        self.snapshots: dict[str, SnapshotState] = {}
        self.topic_numbers: dict[int, TopicState] = {}
        self.changes: list[Change] = []
        self.deliverable: set[SubscriptionState] = set()
        self.published: set[TopicState] = set()
        self.numbers = count(saved.opening * NUMBERS_PER_OPENING)
        self.schemas = Schemas(saved.schemas, self.changed, self.numbers)
        self.policies = Policies(saved.policies, self.changed)
        self._read = saved.read
        self._room = resident_bytes
        self._due: list[tuple[float, int, SubscriptionState]] = []

    # Resources

    def add_topic(self, topic: TopicState) -> None:
        """Have a topic found, by its name and by its number."""
        self.topics[topic.config.name] = topic
        self.topic_numbers[topic.number] = topic

    def add_subscription(self, subscription: SubscriptionState) -> None:
        """Have a subscription found by its name, and by its topic where it is attached."""
        self.subscriptions[subscription.config.name] = subscription
        topic = self.topic_numbers.get(subscription.topic)
        if topic is None or subscription.config.detached:
            return
        topic.subscriptions[subscription.number] = subscription
        if subscription.backlog.log is not None:
            topic.readers[subscription.number] = subscription.backlog.log
        else:
            topic.filtered[subscription.number] = subscription

    def new_backlog(self, number: int, config: Proto, log: Cursor) -> Backlog:
        """Give a subscription with these settings its backlog; what a filter lets in is added."""
        policy = delivery_policy(config)
        return Backlog(number, policy, self.numbers, None if config.filter else log)

    def add_snapshot(self, snapshot: SnapshotState) -> None:
        """Have a snapshot found by its name, and by its topic."""
        self.snapshots[snapshot.config.name] = snapshot
        topic = self.topic_numbers.get(snapshot.topic)
        if topic is not None:
            topic.snapshots[snapshot.number] = snapshot
            topic.readers[snapshot.number] = snapshot.later

    # Messages

    def body(self, message: Message) -> bytes:
        """Give a message's serialized `PubsubMessage`."""
        return self.bodies([message])[0]

    def bodies(self, messages: Sequence[Message]) -> Sequence[bytes]:
        """Give the bodies of messages that somebody holds, from memory or from the store."""
        missing = [message.seq for message in messages if message.body is None]
        found = self._read(missing) if missing else {}
        return [found[m.seq] if m.body is None else m.body for m in messages]

    def hold(self, holder: dict[int, Message], message: Message) -> None:
        """Have a subscription or a snapshot keep a message."""
        if message.seq not in holder:
            holder[message.seq] = message
            message.holders += 1

    def release(self, messages: Iterable[Message]) -> None:
        """Drop messages that had only one holder left; the others lose one."""
        for message in messages:
            message.holders -= 1
            if not message.holders:
                self.drop(message)

    def drop(self, message: Message) -> None:
        """Forget a message that nobody needs."""
        self.changes.append(DropMessage(message.seq))
        if message.body is not None:
            self._room += message.size
            message.body = None

    def keep_body(self, message: Message) -> None:
        """Leave the body of a message that is durable to the store, where memory is full."""
        if self._room < message.size:
            message.body = None
        else:
            self._room -= message.size

    def forget(self, holder: dict[int, Message], before: float = float("inf")) -> None:
        """Have a subscription keep no messages from before a time."""
        for seq, message in list(holder.items()):
            if message.publish_time >= before:
                break
            del holder[seq]
            self.release([message])

    # Time

    def arm(self, subscription: SubscriptionState) -> None:
        """Have a subscription's next deadline looked at when it comes."""
        due = subscription.backlog.next_due()
        if due is not None and due < subscription.armed:
            subscription.armed = due
            heapq.heappush(self._due, (due, subscription.number, subscription))

    def next_due(self) -> float | None:
        """Give the time at which a deadline is to be looked at."""
        return self._due[0][0] if self._due else None

    def pop_due(self, now: float) -> Iterable[SubscriptionState]:
        """Give the subscriptions whose next deadline has come; each must be armed anew."""
        while self._due and self._due[0][0] <= now:
            due, _, subscription = heapq.heappop(self._due)
            if due == subscription.armed:
                subscription.armed = float("inf")
                yield subscription

    # What is kept

    def changed(self, change: Change) -> None:
        """Have a change made durable."""
        self.changes.append(change)

    def save_topic(self, topic: TopicState) -> None:
        """Have a topic's settings made durable."""
        self.changes.append(PutTopic(topic.number, topic.config.SerializeToString()))

    def save_subscription(self, subscription: SubscriptionState) -> None:
        """Have a subscription's settings made durable."""
        body = subscription.config.SerializeToString()
        self.changes.append(
            PutSubscription(subscription.number, subscription.topic, subscription.start, body)
        )

    def save_snapshot(self, snapshot: SnapshotState) -> None:
        """Have a snapshot, and what it holds, made durable."""
        body = snapshot.config.SerializeToString()
        seqs = json.dumps(list(snapshot.backlog))
        self.changes.append(
            PutSnapshot(snapshot.number, snapshot.topic, snapshot.number, seqs, body)
        )


def log_of(topic: TopicState | None) -> Log:
    """Give the log of a topic; of one that is gone, an empty one that nothing will be added to."""
    return topic.log if topic is not None else Log()
