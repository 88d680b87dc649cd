"""The state machine of the server: topics, subscriptions, snapshots and what happens to them.

Pure: no socket, no task, no clock, no file. Methods take the request's protobuf and the time in
seconds since the epoch, and leave behind `changes` (what must be made durable) and `deliverable`
(the subscriptions that may have something new to hand out).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from embedded_pubsub import limits
from embedded_pubsub.changes import (
    Change,
    DropMessage,
    DropSnapshot,
    DropSubscription,
    DropTopic,
    PutAck,
    PutAttempt,
    PutSnapshot,
    PutSubscription,
    PutTopic,
)
from embedded_pubsub.delivery import (
    Backlog,
    Consumer,
    Entry,
    Lease,
    Message,
    parse_ack_id,
)
from embedded_pubsub.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    StaleAckIdError,
)
from embedded_pubsub.filters import compile_filter
from embedded_pubsub.policies import Policies
from embedded_pubsub.protos import Proto, PubsubMessage, Snapshot, Topic
from embedded_pubsub.resources import Publication, SnapshotState, SubscriptionState, TopicState
from embedded_pubsub.restoring import restore
from embedded_pubsub.schemas import DELETED_SCHEMA, Schemas
from embedded_pubsub.settings import (
    copy,
    dead_letter_attributes,
    delivery_policy,
    exports,
    masked,
    with_defaults,
)
from embedded_pubsub.store import Saved

DELETED_TOPIC = "_deleted-topic_"
SNAPSHOT_SECONDS = 7 * 86_400
MIN_SNAPSHOT_SECONDS = 3600
NUMBERS_PER_OPENING = 1 << 40
"""Numbers of one opening of the store never meet those of another, so that no id comes twice."""

INVALID_ACK_ID = "PERMANENT_FAILURE_INVALID_ACK_ID"

_TOPIC_FIXED = frozenset({"name", "kms_key_name"})
_SUBSCRIPTION_FIXED = frozenset({"name", "topic", "filter", "enable_message_ordering", "detached"})
_SNAPSHOT_FIXED = frozenset({"name", "topic"})


class PubSub:
    """All topics, subscriptions and snapshots of one server.

    Args:
        saved: What the store held when it was opened.
    """

    def __init__(self, saved: Saved) -> None:
        self.topics: dict[str, TopicState] = {}
        self.subscriptions: dict[str, SubscriptionState] = {}
        self.snapshots: dict[str, SnapshotState] = {}
        self.changes: list[Change] = []
        self.deliverable: set[SubscriptionState] = set()
        self._numbers = count(saved.opening * NUMBERS_PER_OPENING)
        self.topic_numbers: dict[int, TopicState] = {}
        self.schemas = Schemas(saved.schemas, self._record, self._numbers)
        self.policies = Policies(saved.policies, self._record)
        restore(self, saved)

    # Topics

    def create_topic(self, request: Proto) -> Proto:
        """Create a topic from a `Topic`; gives the topic as created."""
        limits.check_name("name", request.name, "topics")
        self._check_topic(request)
        if request.name in self.topics:
            raise AlreadyExistsError(
                f"Resource already exists in the project (resource={request.name})."
            )
        topic = TopicState(next(self._numbers), copy(request))
        topic.config.state = Topic.ACTIVE
        self.add_topic(topic)
        self._save_topic(topic)
        return topic.config

    def topic(self, name: str, field_name: str = "topic") -> TopicState:
        """Find a topic by its full name."""
        topic = self.topics.get(name)
        if topic is None:
            limits.check_name(field_name, name, "topics")
            raise NotFoundError(f"Resource not found (resource={name}).")
        return topic

    def update_topic(self, request: Proto) -> Proto:
        """Apply an `UpdateTopicRequest`; gives the topic as it is now."""
        topic = self.topic(request.topic.name)
        updated = masked(topic.config, request.topic, request.update_mask, _TOPIC_FIXED)
        self._check_topic(updated)
        topic.config = updated
        self._save_topic(topic)
        if not topic.retention_seconds():
            self._forget(topic.retained)
        return updated

    def delete_topic(self, name: str) -> None:
        """Delete a topic; its subscriptions keep what they have."""
        topic = self.topic(name)
        del self.topics[name]
        del self.topic_numbers[topic.number]
        self._forget(topic.retained)
        self.changes.append(DropTopic(topic.number))
        self.policies.drop(name)
        for subscription in self.subscriptions.values():
            if subscription.topic == topic.number:
                subscription.config.topic = DELETED_TOPIC
                self._save_subscription(subscription)
        for snapshot in list(topic.snapshots.values()):
            snapshot.config.topic = DELETED_TOPIC
            self._save_snapshot(snapshot)

    def delete_schema(self, name: str) -> None:
        """Delete a schema; topics that use it refuse what is published to them from now on."""
        self.schemas.delete(name)
        self.policies.drop(name)
        for topic in self.topics.values():
            if topic.config.schema_settings.schema == name:
                topic.config.schema_settings.schema = DELETED_SCHEMA
                self._save_topic(topic)

    def clear(self, project: str) -> None:
        """Delete all that `projects/{id}` has."""
        deletions = (
            (self.subscriptions, self.delete_subscription),
            (self.snapshots, self.delete_snapshot),
            (self.topics, self.delete_topic),
            (self.schemas.by_name, self.delete_schema),
        )
        for resources, delete in deletions:
            for name in [name for name in resources if name.startswith(f"{project}/")]:
                delete(name)

    def check_exists(self, resource: str) -> None:
        """Refuse the full name of a resource that does not exist."""
        match resource.split("/")[2:3]:
            case ["topics"]:
                self.topic(resource, "resource")
            case ["subscriptions"]:
                self.subscription(resource)
            case ["snapshots"]:
                self.snapshot(resource)
            case ["schemas"]:
                self.schemas.revisions(resource)
            case _:
                raise InvalidArgumentError(
                    f"resource: {resource!r} must name a topic, subscription, snapshot or schema."
                )

    # Publishing

    def prepare(self, request: Proto, now: float) -> Publication:
        """Check a `PublishRequest` and give its messages ids and a publish time."""
        topic = self.topic(request.topic)
        limits.check_messages(request)
        if topic.config.HasField("schema_settings"):
            settings = topic.config.schema_settings
            accepted = [self.schemas.accept(settings, m.data) for m in request.messages]
            for message, attributes in zip(request.messages, accepted, strict=True):
                message.attributes.update(attributes)
        return self._accept(topic, request.messages, now)

    def new_id(self) -> str:
        """Give the id of a message that is accepted, but filtered out before it is published."""
        return str(next(self._numbers))

    def deliver(self, publication: Publication) -> None:
        """Hand durable messages to every subscription that was there when they were published."""
        topic = publication.topic
        retains = topic.retention_seconds() > 0 and topic.number in self.topic_numbers
        for message, attributes in zip(publication.messages, publication.attributes, strict=True):
            for subscription in topic.subscriptions.values():
                if subscription.start < message.seq and subscription.matches(attributes):
                    message.holders += 1
                    subscription.backlog.add(message)
            for snapshot in topic.snapshots.values():
                self.hold(snapshot.messages, message)
            if retains:
                self.hold(topic.retained, message)
            if not message.holders:
                self.changes.append(DropMessage(message.seq))
        self.deliverable.update(topic.subscriptions.values())

    # Subscriptions

    def create_subscription(self, request: Proto) -> Proto:
        """Create a subscription from a `Subscription`; gives it with its defaults filled in."""
        limits.check_name("name", request.name, "subscriptions")
        config = with_defaults(request)
        limits.check_subscription(config)
        matches = compile_filter(config.filter)
        if request.name in self.subscriptions:
            raise AlreadyExistsError(
                f"Resource already exists in the project (resource={request.name})."
            )
        topic = self.topic(request.topic)
        self._check_dead_letter_topic(config)
        number = next(self._numbers)
        subscription = SubscriptionState(
            number, topic.number, number, config, matches, self.new_backlog(number, config)
        )
        self.add_subscription(subscription)
        self._save_subscription(subscription)
        self.deliverable.add(subscription)
        return self.describe(subscription)

    def subscription(self, name: str) -> SubscriptionState:
        """Find a subscription by its full name."""
        subscription = self.subscriptions.get(name)
        if subscription is None:
            limits.check_name("subscription", name, "subscriptions")
            raise NotFoundError(f"Resource not found (resource={name}).")
        return subscription

    def attached(self, name: str) -> SubscriptionState:
        """Find a subscription that messages can be had from."""
        subscription = self.subscription(name)
        self.check_alive(subscription)
        return subscription

    def pullable(self, name: str) -> SubscriptionState:
        """Find a subscription that is neither pushed nor exported."""
        subscription = self.attached(name)
        config = subscription.config
        if config.push_config.push_endpoint:
            raise FailedPreconditionError(
                f"{name} is pushed and can't be pulled from; modify its push config first."
            )
        if exports(config):
            raise FailedPreconditionError(
                f"{name} is exported and can't be pulled from. The export is not run by "
                "embedded_pubsub: its messages wait until the export is cleared."
            )
        return subscription

    @staticmethod
    def check_alive(subscription: SubscriptionState) -> None:
        """Refuse a subscription that was deleted or detached since it was found."""
        name = subscription.config.name
        if subscription.deleted:
            raise NotFoundError(f"Resource not found (resource={name}).")
        if subscription.config.detached:
            raise FailedPreconditionError(f"Subscription is detached (resource={name}).")

    def describe(self, subscription: SubscriptionState) -> Proto:
        """Give the settings of a subscription with what the service adds to them."""
        config = copy(subscription.config)
        topic = self.topic_numbers.get(subscription.topic)
        if topic is not None and topic.retention_seconds():
            config.topic_message_retention_duration.CopyFrom(
                topic.config.message_retention_duration
            )
        return config

    def update_subscription(self, request: Proto) -> Proto:
        """Apply an `UpdateSubscriptionRequest`; gives the subscription as it is now."""
        subscription = self.subscription(request.subscription.name)
        mask = request.update_mask
        updated = masked(subscription.config, request.subscription, mask, _SUBSCRIPTION_FIXED)
        return self._configure(subscription, updated)

    def modify_push_config(self, request: Proto) -> Proto:
        """Apply a `ModifyPushConfigRequest`: push from now on, or (empty) be pulled from."""
        subscription = self.subscription(request.subscription)
        updated = copy(subscription.config)
        updated.push_config.CopyFrom(request.push_config)
        return self._configure(subscription, updated)

    def _configure(self, subscription: SubscriptionState, wanted: Proto) -> Proto:
        updated = with_defaults(wanted)
        limits.check_subscription(updated)
        self._check_dead_letter_topic(updated)
        subscription.config = updated
        subscription.backlog.policy = delivery_policy(updated)
        if not updated.retain_acked_messages:
            self._forget(subscription.retained)
        self._save_subscription(subscription)
        self.deliverable.add(subscription)
        return self.describe(subscription)

    def delete_subscription(self, name: str) -> None:
        """Delete a subscription and all that it owes."""
        subscription = self.subscription(name)
        del self.subscriptions[name]
        subscription.deleted = True
        self._empty(subscription)
        self.changes.append(DropSubscription(subscription.number))
        self.policies.drop(name)

    def detach_subscription(self, name: str) -> None:
        """Cut a subscription off its topic and drop what it owes."""
        subscription = self.subscription(name)
        subscription.config.detached = True
        self._empty(subscription)
        self._save_subscription(subscription)

    # Delivery

    def take(
        self,
        subscription: SubscriptionState,
        consumer: Consumer,
        now: float,
        max_messages: int,
        max_bytes: int,
    ) -> list[Lease]:
        """Lease messages of a subscription to a consumer."""
        subscription.used = now
        leases = subscription.backlog.take(consumer, now, max_messages, max_bytes)
        if subscription.backlog.policy.max_delivery_attempts:
            number = subscription.number
            self.changes.extend(
                PutAttempt(lease.entry.message.seq, number, lease.entry.failures + 1)
                for lease in leases
            )
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
        self._check_ack_ids(subscription, ack_ids)
        if subscription.backlog.policy.exactly_once:
            ack_ids = list(dict.fromkeys(ack_ids))
        stale = subscription.backlog.acknowledge(ack_ids, now)
        self.collect(subscription, now)
        self._refuse_stale(subscription, stale)

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
        self._check_ack_ids(subscription, ack_ids)
        backlog = subscription.backlog
        pairs = zip(ack_ids, seconds, strict=True)
        stale = [a for a, value in pairs if not backlog.modify_deadline(a, value, now)]
        self.collect(subscription, now)
        self._refuse_stale(subscription, stale)

    def tick(self, now: float) -> None:
        """Do what has become due: leases that ran out, backoffs that are over."""
        for subscription in self.subscriptions.values():
            due = subscription.backlog.next_due()
            if due is not None and due <= now:
                subscription.backlog.tick(now)
                self.collect(subscription, now)

    def next_due(self) -> float | None:
        """Give the time at which `tick` has something to do."""
        dues = (s.backlog.next_due() for s in self.subscriptions.values())
        return min((due for due in dues if due is not None), default=None)

    def expire(self, now: float, consumed: Iterable[SubscriptionState] = ()) -> None:
        """Drop what has outlived its retention: messages, snapshots, unused subscriptions.

        Args:
            now: The time, in seconds.
            consumed: The subscriptions that somebody waits for messages of.
        """
        for subscription in consumed:
            subscription.used = now
        for subscription in [s for s in self.subscriptions.values() if s.is_unused(now)]:
            self.delete_subscription(subscription.config.name)
        for topic in self.topics.values():
            self._forget(topic.retained, before=now - topic.retention_seconds())
        for subscription in self.subscriptions.values():
            self._expire_messages(subscription, now - subscription.retention_seconds())
        for name, snapshot in list(self.snapshots.items()):
            if limits.seconds_of(snapshot.config.expire_time) <= now:
                self.delete_snapshot(name)

    # Snapshots

    def create_snapshot(self, request: Proto, now: float) -> Proto:
        """Keep what a subscription owes, and what is published after, for a later seek."""
        limits.check_name("name", request.name, "snapshots")
        limits.check_labels(request.labels)
        subscription = self.attached(request.subscription)
        if request.name in self.snapshots:
            raise AlreadyExistsError(
                f"Resource already exists in the project (resource={request.name})."
            )
        topic = self.topic_numbers.get(subscription.topic)
        if topic is None:
            raise FailedPreconditionError(
                f"The topic of {request.subscription} is deleted; a snapshot needs one."
            )
        entries = subscription.backlog.entries.values()
        oldest = min((entry.message.publish_time for entry in entries), default=now)
        lifetime = SNAPSHOT_SECONDS - (now - oldest)
        if lifetime < MIN_SNAPSHOT_SECONDS:
            raise FailedPreconditionError(
                f"The oldest unacked message of {request.subscription} is too old: the snapshot "
                "would expire in less than an hour."
            )
        config = Snapshot(name=request.name, topic=topic.config.name, labels=request.labels)
        config.expire_time.FromMilliseconds(int((now + lifetime) * 1000))
        snapshot = SnapshotState(next(self._numbers), topic.number, config, {})
        for entry in entries:
            self.hold(snapshot.messages, entry.message)
        self.snapshots[request.name] = topic.snapshots[snapshot.number] = snapshot
        self._save_snapshot(snapshot)
        return config

    def snapshot(self, name: str) -> SnapshotState:
        """Find a snapshot by its full name."""
        snapshot = self.snapshots.get(name)
        if snapshot is None:
            limits.check_name("snapshot", name, "snapshots")
            raise NotFoundError(f"Resource not found (resource={name}).")
        return snapshot

    def update_snapshot(self, request: Proto) -> Proto:
        """Apply an `UpdateSnapshotRequest`; gives the snapshot as it is now."""
        snapshot = self.snapshot(request.snapshot.name)
        mask = request.update_mask
        updated = masked(snapshot.config, request.snapshot, mask, _SNAPSHOT_FIXED)
        limits.check_labels(updated.labels)
        if not updated.HasField("expire_time"):
            raise InvalidArgumentError("snapshot.expire_time: must be set.")
        snapshot.config = updated
        self._save_snapshot(snapshot)
        return snapshot.config

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot and what only it kept."""
        snapshot = self.snapshot(name)
        del self.snapshots[name]
        topic = self.topic_numbers.get(snapshot.topic)
        if topic is not None:
            del topic.snapshots[snapshot.number]
        self._forget(snapshot.messages)
        self.changes.append(DropSnapshot(snapshot.number))
        self.policies.drop(name)

    # -- messages and who holds them

    def _accept(self, topic: TopicState, messages: Iterable[Proto], now: float) -> Publication:
        seconds, nanos = int(now), int(now % 1 * 1e9)
        accepted: list[Message] = []
        attributes: list[Mapping[str, str]] = []
        filtered = any(s.config.filter for s in topic.subscriptions.values())
        for message in messages:
            seq = next(self._numbers)
            message.message_id = str(seq)
            message.publish_time.seconds = seconds
            message.publish_time.nanos = nanos
            body = message.SerializeToString()
            accepted.append(Message(seq, topic.number, body, message.ordering_key, now))
            attributes.append(dict(message.attributes) if filtered else {})
        return Publication(topic, accepted, attributes)

    @staticmethod
    def hold(holder: dict[int, Message], message: Message) -> None:
        """Have a topic, a subscription or a snapshot keep a message."""
        if message.seq not in holder:
            holder[message.seq] = message
            message.holders += 1

    def _release(self, message: Message) -> None:
        message.holders -= 1
        if not message.holders:
            self.changes.append(DropMessage(message.seq))

    def _forget(self, holder: dict[int, Message], before: float = float("inf")) -> None:
        for seq, message in list(holder.items()):
            if message.publish_time >= before:
                break
            del holder[seq]
            self._release(message)

    def _empty(self, subscription: SubscriptionState) -> None:
        topic = self.topic_numbers.get(subscription.topic)
        if topic is not None:
            topic.subscriptions.pop(subscription.number, None)
        messages = [entry.message for entry in subscription.backlog.entries.values()]
        subscription.backlog.refill([])
        for message in messages:
            self._release(message)
        self._forget(subscription.retained)
        self.deliverable.add(subscription)

    def collect(self, subscription: SubscriptionState, now: float) -> None:
        """Take over what left a backlog: settled messages, and those for the dead letters."""
        backlog = subscription.backlog
        while backlog.settled or backlog.exhausted:
            exhausted, backlog.exhausted = backlog.exhausted, []
            for entry in exhausted:
                self._forward(subscription, entry, now)
            settled, backlog.settled = backlog.settled, []
            for message in settled:
                retain = subscription.config.retain_acked_messages
                self._settle(subscription, message, retain=retain)
        self.deliverable.add(subscription)

    def _settle(self, subscription: SubscriptionState, message: Message, *, retain: bool) -> None:
        if retain:
            subscription.retained[message.seq] = message
        else:
            message.holders -= 1
        if message.holders:
            self.changes.append(PutAck(message.seq, subscription.number))
        else:
            self.changes.append(DropMessage(message.seq))

    def _expire_messages(self, subscription: SubscriptionState, before: float) -> None:
        backlog = subscription.backlog
        for entry in list(backlog.entries.values()):
            if entry.message.publish_time >= before:
                break
            backlog.settle(entry)
        for message in backlog.settled:
            self._settle(subscription, message, retain=False)
        backlog.settled.clear()
        self._forget(subscription.retained, before)

    # -- dead letters

    def _forward(self, subscription: SubscriptionState, entry: Entry, now: float) -> None:
        topic = self.topics.get(subscription.config.dead_letter_policy.dead_letter_topic)
        if topic is None:
            subscription.backlog.retry(entry, now)
            return
        dead = PubsubMessage.FromString(entry.message.body)
        dead.attributes.update(dead_letter_attributes(subscription.config.name, entry))
        publication = self._accept(topic, [dead], now)
        self.changes.extend(publication.changes())
        self.deliver(publication)
        subscription.backlog.settle(entry)

    def _check_topic(self, config: Proto) -> None:
        limits.check_topic(config)
        if config.HasField("schema_settings"):
            settings = config.schema_settings
            if settings.schema != DELETED_SCHEMA:
                self.schemas.check_settings(settings)

    def _check_dead_letter_topic(self, config: Proto) -> None:
        if config.HasField("dead_letter_policy"):
            self.topic(config.dead_letter_policy.dead_letter_topic, "dead_letter_topic")

    # -- ack ids

    @staticmethod
    def _check_ack_ids(subscription: SubscriptionState, ack_ids: Sequence[str]) -> None:
        if not subscription.backlog.policy.exactly_once:
            leases = subscription.backlog.leases
            for ack_id in ack_ids:
                if ack_id not in leases:
                    parse_ack_id(ack_id)

    @staticmethod
    def _refuse_stale(subscription: SubscriptionState, stale: Sequence[str]) -> None:
        if stale and subscription.backlog.policy.exactly_once:
            raise StaleAckIdError(dict.fromkeys(stale, INVALID_ACK_ID))

    # -- what is kept

    def _record(self, change: Change) -> None:
        self.changes.append(change)

    def new_backlog(self, number: int, config: Proto) -> Backlog:
        """Give a subscription with these settings an empty backlog."""
        return Backlog(number, delivery_policy(config), self._numbers)

    def add_topic(self, topic: TopicState) -> None:
        """Have a topic found, by its name and by its number."""
        self.topics[topic.config.name] = topic
        self.topic_numbers[topic.number] = topic

    def add_subscription(self, subscription: SubscriptionState) -> None:
        """Have a subscription found by its name, and by its topic where it is attached."""
        self.subscriptions[subscription.config.name] = subscription
        topic = self.topic_numbers.get(subscription.topic)
        if topic is not None and not subscription.config.detached:
            topic.subscriptions[subscription.number] = subscription

    def _save_topic(self, topic: TopicState) -> None:
        self.changes.append(PutTopic(topic.number, topic.config.SerializeToString()))

    def _save_subscription(self, subscription: SubscriptionState) -> None:
        body = subscription.config.SerializeToString()
        self.changes.append(
            PutSubscription(subscription.number, subscription.topic, subscription.start, body)
        )

    def _save_snapshot(self, snapshot: SnapshotState) -> None:
        seqs = json.dumps([seq for seq in snapshot.messages if seq < snapshot.number])
        body = snapshot.config.SerializeToString()
        self.changes.append(
            PutSnapshot(snapshot.number, snapshot.topic, snapshot.number, seqs, body)
        )
