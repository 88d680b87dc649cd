"""Snapshots: what a subscription had not acknowledged, kept for a later seek."""

from embedded_pubsub import limits
from embedded_pubsub.changes import DropSnapshot
from embedded_pubsub.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from embedded_pubsub.protos import Proto, Snapshot
from embedded_pubsub.resources import SnapshotState
from embedded_pubsub.settings import masked
from embedded_pubsub.subscriptions import Subscriptions

SNAPSHOT_SECONDS = 7 * 86_400
MIN_SNAPSHOT_SECONDS = 3600

_FIXED = frozenset({"name", "topic"})


class Snapshots(Subscriptions):
    """The snapshots of a server."""

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
        self.use(subscription, now)
        oldest = min((m.publish_time for m in subscription.backlog.messages()), default=now)
        lifetime = SNAPSHOT_SECONDS - (now - oldest)
        if lifetime < MIN_SNAPSHOT_SECONDS:
            raise FailedPreconditionError(
                f"The oldest unacked message of {request.subscription} is too old: the snapshot "
                "would expire in less than an hour."
            )
        config = Snapshot(name=request.name, topic=topic.config.name, labels=request.labels)
        config.expire_time.FromMilliseconds(int((now + lifetime) * 1000))
        number = next(self.numbers)
        snapshot = SnapshotState(number, topic.number, config, topic.log.end(number))
        for message in subscription.backlog.messages():
            self.hold(snapshot.backlog, message)
        self.add_snapshot(snapshot)
        self.save_snapshot(snapshot)
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
        updated = masked(snapshot.config, request.snapshot, mask, _FIXED)
        limits.check_labels(updated.labels)
        if not updated.HasField("expire_time"):
            raise InvalidArgumentError("snapshot.expire_time: must be set.")
        snapshot.config = updated
        self.save_snapshot(snapshot)
        return snapshot.config

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot and what only it kept."""
        snapshot = self.snapshot(name)
        del self.snapshots[name]
        topic = self.topic_numbers.get(snapshot.topic)
        if topic is not None:
            del topic.snapshots[snapshot.number]
            del topic.readers[snapshot.number]
        self.release(snapshot.messages())
        self.changes.append(DropSnapshot(snapshot.number))
        self.policies.drop(name)
