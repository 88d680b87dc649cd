"""The state machine as the store remembers it: what was leased when it ended is ready again.

A message is not looked at for each of its subscriptions: they stand in its topic's log, and of each
only what it acknowledged is known. Bodies are read only where a filter asks for them.
"""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from embedded_pubsub.changes import PutSnapshot, PutSubscription
from embedded_pubsub.filters import compile_filter
from embedded_pubsub.log import Cursor, Log, Message
from embedded_pubsub.protos import PubsubMessage, Snapshot, Subscription, Topic
from embedded_pubsub.resources import (
    USED_EVERY_SECONDS,
    SnapshotState,
    SubscriptionState,
    TopicState,
)
from embedded_pubsub.store import READ_AT_ONCE, Saved

if TYPE_CHECKING:
    from embedded_pubsub.state import PubSub


@dataclass(slots=True, eq=False)
class _Restored:
    """A topic's messages (also of one that is deleted), and who holds them."""

    log: Log
    first: Cursor = field(init=False)
    readers: list[Cursor] = field(default_factory=list)
    filtered: list[SubscriptionState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first = self.log.end()

    def reader(self, start: int) -> Cursor:
        """Give the place from which messages numbered above `start` are held."""
        cursor = self.first.after(start)
        self.readers.append(cursor)
        return cursor


def restore(state: "PubSub", saved: Saved) -> None:
    """Rebuild topics, subscriptions, snapshots and who holds which message."""
    logs: defaultdict[int, _Restored] = defaultdict(lambda: _Restored(Log()))
    for number, body in saved.topics:
        topic = TopicState(number, Topic.FromString(body))
        state.add_topic(topic)
        logs[number] = _Restored(topic.log)
    for number, rows in groupby(saved.messages, itemgetter(1)):
        messages = [Message(seq, number, size, key, time) for seq, _, time, key, size in rows]
        logs[number].log.extend(messages)
    for number, topic in state.topic_numbers.items():
        if topic.retention_seconds():
            topic.readers[number] = logs[number].reader(-1)
    for put in saved.subscriptions:
        _restore_subscription(state, put, logs[put.topic])
    _restore_what_was_done(state, saved)
    acked = _by_message(state, saved.acks)
    owed = _by_message(state, saved.owed)
    kept = _restore_snapshots(state, saved.snapshots, logs)
    for restored in logs.values():
        _count_holders(state, restored, acked, owed, kept)


def _restore_subscription(state: "PubSub", put: PutSubscription, restored: _Restored) -> None:
    config = Subscription.FromString(put.body)
    reads = not (config.detached or config.filter)
    log = restored.reader(put.start) if reads else restored.first
    backlog = state.new_backlog(put.number, config, log)
    if config.detached:
        backlog.clear()
    subscription = SubscriptionState(
        number=put.number,
        topic=put.topic,
        start=put.start,
        config=config,
        matches=compile_filter(config.filter),
        backlog=backlog,
    )
    state.add_subscription(subscription)
    if config.filter and not config.detached:
        restored.filtered.append(subscription)


def _restore_what_was_done(state: "PubSub", saved: Saved) -> None:
    numbered = {each.number: each for each in state.subscriptions.values()}
    failures: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for seq, number, attempt in saved.attempts:
        failures[number][seq] = attempt
    for number, failed in failures.items():
        if number in numbered:
            numbered[number].backlog.failures = failed
    for number, first in saved.seeks:
        if number in numbered:
            numbered[number].backlog.first_delivery = first
    for number, used in saved.uses:
        if number in numbered:
            numbered[number].used_saved = used
            numbered[number].used = used + USED_EVERY_SECONDS


def _by_message(
    state: "PubSub", pairs: Iterable[tuple[int, int]]
) -> Mapping[int, list[SubscriptionState]]:
    numbered = {each.number: each for each in state.subscriptions.values()}
    found: defaultdict[int, list[SubscriptionState]] = defaultdict(list)
    for seq, number in pairs:
        if number in numbered:
            found[seq].append(numbered[number])
    return found


def _restore_snapshots(
    state: "PubSub", puts: Iterable[PutSnapshot], logs: Mapping[int, _Restored]
) -> Mapping[int, list[SnapshotState]]:
    kept: defaultdict[int, list[SnapshotState]] = defaultdict(list)
    for put in puts:
        config = Snapshot.FromString(put.body)
        later = logs[put.topic].reader(put.after)
        snapshot = SnapshotState(put.number, put.topic, config, later)
        state.add_snapshot(snapshot)
        for seq in json.loads(put.seqs):
            kept[seq].append(snapshot)
    return kept


def _count_holders(
    state: "PubSub",
    restored: _Restored,
    acked: Mapping[int, list[SubscriptionState]],
    owed: Mapping[int, list[SubscriptionState]],
    kept: Mapping[int, list[SnapshotState]],
) -> None:
    starts = sorted(reader.start for reader in restored.readers)
    for message in restored.first:
        message.holders = bisect_left(starts, message.seq)
        if message.seq in acked:
            _take_acked(message, acked[message.seq])
        for subscription in owed.get(message.seq, ()):
            done = subscription in acked.get(message.seq, ())
            _restore_to(state, subscription, message, done=done)
        for snapshot in kept.get(message.seq, ()):
            state.hold(snapshot.backlog, message)
    if restored.filtered:
        _filter(state, restored, acked)
    for message in restored.first:
        if not message.holders:
            state.drop(message)


def _take_acked(message: Message, subscriptions: Iterable[SubscriptionState]) -> None:
    for subscription in subscriptions:
        if subscription.backlog.log is None or message.seq < subscription.start:
            continue
        subscription.backlog.log.skip([message])
        if subscription.config.retain_acked_messages:
            subscription.retained[message.seq] = message
        else:
            message.holders -= 1


def _filter(
    state: "PubSub", restored: _Restored, acked: Mapping[int, list[SubscriptionState]]
) -> None:
    messages = list(restored.first)
    for start in range(0, len(messages), READ_AT_ONCE):
        some = messages[start : start + READ_AT_ONCE]
        for message, body in zip(some, state.bodies(some), strict=True):
            attributes = PubsubMessage.FromString(body).attributes
            for subscription in restored.filtered:
                if message.seq > subscription.start and subscription.matches(attributes):
                    done = subscription in acked.get(message.seq, ())
                    _restore_to(state, subscription, message, done=done)


def _restore_to(
    state: "PubSub", subscription: SubscriptionState, message: Message, *, done: bool
) -> None:
    if not done:
        message.holders += 1
        subscription.backlog.add(message)
    elif subscription.config.retain_acked_messages:
        state.hold(subscription.retained, message)
