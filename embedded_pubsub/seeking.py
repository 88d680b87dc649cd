"""Seek: what is acknowledged is set to what it was, by a time or by a snapshot.

What is unacknowledged then is delivered again, whatever is out at the time: an ack of a delivery
from before the seek does not count, restarts or not. Pure, like the state machine. Source: Cloud
Pub/Sub documentation, "Replay and purge messages".
"""

from collections.abc import Iterable, Mapping

from embedded_pubsub.changes import DropAck, PutOwed, PutSeek
from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.log import Message
from embedded_pubsub.protos import PubsubMessage
from embedded_pubsub.resources import SubscriptionState
from embedded_pubsub.state import PubSub


def seek_to_time(state: PubSub, subscription: SubscriptionState, time: float, now: float) -> None:
    """Acknowledge what was published before a time, bring back what came after it."""
    state.check_alive(subscription)
    held = _within_reach(state, subscription)
    wanted = {seq for seq, message in held.items() if message.publish_time >= time}
    _seek(state, subscription, held, wanted, now)


def seek_to_snapshot(state: PubSub, subscription: SubscriptionState, name: str, now: float) -> None:
    """Set what is acknowledged to what was when the snapshot was made."""
    state.check_alive(subscription)
    snapshot = state.snapshot(name)
    if snapshot.topic != subscription.topic:
        raise InvalidArgumentError(
            f"snapshot: {name} is of another topic than {subscription.config.name}."
        )
    held = _within_reach(state, subscription)
    kept = list(snapshot.messages())
    held.update(_matching(state, subscription, kept))
    _seek(state, subscription, held, {message.seq for message in kept}, now)


def _within_reach(state: PubSub, subscription: SubscriptionState) -> dict[int, Message]:
    subscription.backlog.fetch_all()
    held = {message.seq: message for message in subscription.backlog.messages()}
    held.update(subscription.retained)
    topic = state.topic_numbers.get(subscription.topic)
    if topic is not None:
        held.update(_matching(state, subscription, topic.retained or ()))
    return held


def _matching(
    state: PubSub, subscription: SubscriptionState, messages: Iterable[Message]
) -> dict[int, Message]:
    if not subscription.config.filter:
        return {message.seq: message for message in messages}
    return {
        message.seq: message
        for message in messages
        if subscription.matches(PubsubMessage.FromString(state.body(message)).attributes)
    }


def _seek(
    state: PubSub,
    subscription: SubscriptionState,
    held: Mapping[int, Message],
    wanted: set[int],
    now: float,
) -> None:
    state.use(subscription, now)
    backlog = subscription.backlog
    for seq in [seq for seq in backlog.entries if seq not in wanted]:
        backlog.settle(backlog.entries[seq])
    state.collect(subscription, now)
    back = [seq for seq in sorted(wanted & held.keys()) if seq not in backlog.entries]
    for seq in back:
        if subscription.retained.pop(seq, None) is None:
            held[seq].holders += 1
        state.changes.append(DropAck(seq, subscription.number))
        if seq < subscription.start:
            state.changes.append(PutOwed(seq, subscription.number))
    backlog.refill(held[seq] for seq in sorted([*backlog.entries, *back]))
    state.changes.append(PutSeek(subscription.number, backlog.first_delivery))
