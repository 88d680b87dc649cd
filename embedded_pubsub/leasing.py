"""Leasing: messages go out under an ack id, and are settled, fail, or run out of time."""

from collections.abc import Iterable, Sequence

from embedded_pubsub import limits
from embedded_pubsub.changes import PutAck, PutAttempt
from embedded_pubsub.errors import StaleAckIdError
from embedded_pubsub.leases import Consumer, Entry, Lease, parse_ack_id
from embedded_pubsub.log import Message
from embedded_pubsub.protos import PubsubMessage
from embedded_pubsub.resources import SubscriptionState
from embedded_pubsub.settings import dead_letter_attributes
from embedded_pubsub.snapshots import Snapshots

INVALID_ACK_ID = "PERMANENT_FAILURE_INVALID_ACK_ID"


class Leasing(Snapshots):
    """What goes out of a server."""

    def take(
        self,
        subscription: SubscriptionState,
        consumer: Consumer,
        now: float,
        max_messages: int,
        max_bytes: int,
    ) -> list[Lease]:
        """Lease messages of a subscription to a consumer."""
        self.use(subscription, now)
        leases = subscription.backlog.take(consumer, now, max_messages, max_bytes)
        if subscription.backlog.policy.max_delivery_attempts:
            number = subscription.number
            self.changes.extend(
                PutAttempt(lease.entry.message.seq, number, lease.entry.failures + 1)
                for lease in leases
            )
        self.arm(subscription)
        return leases

    def acknowledge(
        self, subscription: SubscriptionState, ack_ids: Sequence[str], now: float
    ) -> None:
        """Settle deliveries by their ack ids.

        Raises:
            InvalidArgumentError: An ack id is not one of this server's; nothing is settled.
            StaleAckIdError: Delivery is exactly-once and the lease of some is over; the others
                are settled.
        """
        _check_ack_ids(subscription, ack_ids)
        self.use(subscription, now)
        if subscription.backlog.policy.exactly_once:
            ack_ids = list(dict.fromkeys(ack_ids))
        stale = subscription.backlog.acknowledge(ack_ids, now)
        self.collect(subscription, now)
        _refuse_stale(subscription, stale)

    def modify_deadlines(
        self,
        subscription: SubscriptionState,
        ack_ids: Sequence[str],
        seconds: Sequence[float],
        now: float,
    ) -> None:
        """Set each delivery's deadline to that many seconds from now; 0 gives it back.

        Raises:
            InvalidArgumentError: An ack id or a deadline is not valid; nothing is changed.
            StaleAckIdError: Delivery is exactly-once and the lease of some is over; the others
                are changed.
        """
        for value in seconds:
            limits.check_range("ack_deadline_seconds", value, 0, limits.MAX_ACK_DEADLINE_SECONDS)
        _check_ack_ids(subscription, ack_ids)
        self.use(subscription, now)
        backlog = subscription.backlog
        pairs = zip(ack_ids, seconds, strict=True)
        stale = [a for a, value in pairs if not backlog.modify_deadline(a, value, now)]
        self.collect(subscription, now)
        _refuse_stale(subscription, stale)

    def tick(self, now: float) -> None:
        """Do what has become due: leases that ran out, backoffs that are over."""
        for subscription in self.pop_due(now):
            if not subscription.deleted:
                subscription.backlog.tick(now)
                self.collect(subscription, now)

    def expire(self, now: float, consumed: Iterable[SubscriptionState] = ()) -> None:
        """Drop what has outlived its retention: messages, snapshots, unused subscriptions.

        Args:
            now: The time, in seconds.
            consumed: The subscriptions that somebody waits for messages of.
        """
        new = (each for each in self.subscriptions.values() if each.used is None)
        for subscription in [*consumed, *new]:
            self.use(subscription, now)
        for subscription in [s for s in self.subscriptions.values() if s.is_unused(now)]:
            self.delete_subscription(subscription.config.name)
        for topic in self.topics.values():
            if topic.retained is not None:
                self.release(topic.retained.take_before(now - topic.retention_seconds()))
        for subscription in self.subscriptions.values():
            self._expire_messages(subscription, now - subscription.retention_seconds())
        for name, snapshot in list(self.snapshots.items()):
            if limits.seconds_of(snapshot.config.expire_time) <= now:
                self.delete_snapshot(name)

    def collect(self, subscription: SubscriptionState, now: float) -> None:
        """Take over what left a backlog: settled messages, and those for the dead letters."""
        backlog = subscription.backlog
        while backlog.settled or backlog.exhausted:
            exhausted, backlog.exhausted = backlog.exhausted, []
            for entry in exhausted:
                self._forward(subscription, entry, now)
            settled, backlog.settled = backlog.settled, []
            self._settle(subscription, settled, retain=subscription.config.retain_acked_messages)
        self.arm(subscription)
        self.deliverable.add(subscription)

    def _settle(
        self, subscription: SubscriptionState, messages: Iterable[Message], *, retain: bool
    ) -> None:
        for message in messages:
            if retain:
                subscription.retained[message.seq] = message
            else:
                message.holders -= 1
            if message.holders:
                self.changes.append(PutAck(message.seq, subscription.number))
            else:
                self.drop(message)

    def _expire_messages(self, subscription: SubscriptionState, before: float) -> None:
        backlog = subscription.backlog
        backlog.expire(before)
        settled, backlog.settled = backlog.settled, []
        self._settle(subscription, settled, retain=False)
        self.forget(subscription.retained, before)

    def _forward(self, subscription: SubscriptionState, entry: Entry, now: float) -> None:
        """Publish a message that failed too often to the dead-letter topic."""
        topic = self.topics.get(subscription.config.dead_letter_policy.dead_letter_topic)
        if topic is None:
            subscription.backlog.retry(entry, now)
            return
        dead = PubsubMessage.FromString(self.body(entry.message))
        dead.attributes.update(dead_letter_attributes(subscription.config.name, entry))
        publication = self.accept(topic, [dead], [dead.SerializeToString()], now)
        self.changes.extend(publication.changes())
        self.deliver(publication)
        subscription.backlog.settle(entry)


def _check_ack_ids(subscription: SubscriptionState, ack_ids: Sequence[str]) -> None:
    if not subscription.backlog.policy.exactly_once:
        leases = subscription.backlog.leases
        for ack_id in ack_ids:
            if ack_id not in leases:
                parse_ack_id(ack_id)


def _refuse_stale(subscription: SubscriptionState, stale: Sequence[str]) -> None:
    if stale and subscription.backlog.policy.exactly_once:
        raise StaleAckIdError(dict.fromkeys(stale, INVALID_ACK_ID))
