"""The state machine as the store remembers it: what was leased when it ended is ready again."""

import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from embedded_pubsub import limits
from embedded_pubsub.changes import DropMessage, PutSnapshot, PutSubscription
from embedded_pubsub.delivery import Message
from embedded_pubsub.filters import compile_filter
from embedded_pubsub.protos import Proto, PubsubMessage, Snapshot, Subscription, Topic
from embedded_pubsub.resources import SnapshotState, SubscriptionState, TopicState
from embedded_pubsub.store import Saved

if TYPE_CHECKING:
    from embedded_pubsub.state import PubSub


def restore(state: "PubSub", saved: Saved) -> None:
    """Rebuild topics, subscriptions, snapshots and who holds which message."""
    for number, body in saved.topics:
        state.add_topic(TopicState(number, Topic.FromString(body)))
    for put in saved.subscriptions:
        _restore_subscription(state, put)
    snapshots = [_restore_snapshot(state, put) for put in saved.snapshots]
    listening: dict[int, list[SubscriptionState]] = {}
    for subscription in state.subscriptions.values():
        if not subscription.config.detached:
            listening.setdefault(subscription.topic, []).append(subscription)
    attempts = {(seq, number): attempt for seq, number, attempt in saved.attempts}
    retaining = {n: topic for n, topic in state.topic_numbers.items() if topic.retention_seconds()}
    for seq, topic, body in saved.messages:
        published = PubsubMessage.FromString(body)
        time = limits.seconds_of(published.publish_time)
        message = Message(seq, topic, body, published.ordering_key, time)
        for subscription in listening.get(topic, ()):
            _restore_to(state, subscription, message, published, saved.acks, attempts)
        _restore_to_snapshots(state, message, snapshots)
        if topic in retaining:
            state.hold(retaining[topic].retained, message)
        if not message.holders:
            state.changes.append(DropMessage(seq))


def _restore_subscription(state: "PubSub", put: PutSubscription) -> None:
    config = Subscription.FromString(put.body)
    state.add_subscription(
        SubscriptionState(
            number=put.number,
            topic=put.topic,
            start=put.start,
            config=config,
            matches=compile_filter(config.filter),
            backlog=state.new_backlog(put.number, config),
        )
    )


def _restore_snapshot(state: "PubSub", saved: PutSnapshot) -> tuple[SnapshotState, frozenset[int]]:
    config = Snapshot.FromString(saved.body)
    snapshot = SnapshotState(saved.number, saved.topic, config, {})
    state.snapshots[config.name] = snapshot
    if saved.topic in state.topic_numbers:
        state.topic_numbers[saved.topic].snapshots[saved.number] = snapshot
    return snapshot, frozenset(json.loads(saved.seqs))


def _restore_to(
    state: "PubSub",
    subscription: SubscriptionState,
    message: Message,
    published: Proto,
    acks: AbstractSet[tuple[int, int]],
    attempts: Mapping[tuple[int, int], int],
) -> None:
    key = (message.seq, subscription.number)
    if subscription.start > message.seq or not subscription.matches(published.attributes):
        return
    if key not in acks:
        message.holders += 1
        subscription.backlog.add(message, attempts.get(key, 0))
    elif subscription.config.retain_acked_messages:
        state.hold(subscription.retained, message)


def _restore_to_snapshots(
    state: "PubSub", message: Message, snapshots: Iterable[tuple[SnapshotState, frozenset[int]]]
) -> None:
    for snapshot, seqs in snapshots:
        later = message.topic == snapshot.topic and message.seq > snapshot.number
        if later or message.seq in seqs:
            state.hold(snapshot.messages, message)
