"""Topics: made, changed, deleted."""

from embedded_pubsub import limits
from embedded_pubsub.changes import DropTopic
from embedded_pubsub.errors import AlreadyExistsError, NotFoundError
from embedded_pubsub.holdings import Holdings
from embedded_pubsub.protos import Proto, Topic
from embedded_pubsub.resources import TopicState
from embedded_pubsub.schemas import DELETED_SCHEMA
from embedded_pubsub.settings import copy, masked

DELETED_TOPIC = "_deleted-topic_"

_FIXED = frozenset({"name", "kms_key_name"})


class Topics(Holdings):
    """The topics of a server."""

    def create_topic(self, request: Proto) -> Proto:
        """Create a topic from a `Topic`; gives the topic as created."""
        limits.check_name("name", request.name, "topics")
        self._check_topic(request)
        if request.name in self.topics:
            raise AlreadyExistsError(
                f"Resource already exists in the project (resource={request.name})."
            )
        topic = TopicState(next(self.numbers), copy(request))
        topic.config.state = Topic.ACTIVE
        self.add_topic(topic)
        self._retain(topic)
        self.save_topic(topic)
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
        updated = masked(topic.config, request.topic, request.update_mask, _FIXED)
        self._check_topic(updated)
        topic.config = updated
        self.save_topic(topic)
        self._retain(topic)
        return updated

    def delete_topic(self, name: str) -> None:
        """Delete a topic; its subscriptions keep what they have."""
        topic = self.topic(name)
        del self.topics[name]
        del self.topic_numbers[topic.number]
        self.release(topic.readers.pop(topic.number, ()))
        self.changes.append(DropTopic(topic.number))
        self.policies.drop(name)
        for subscription in self.subscriptions.values():
            if subscription.topic == topic.number:
                subscription.config.topic = DELETED_TOPIC
                self.save_subscription(subscription)
        for snapshot in list(topic.snapshots.values()):
            snapshot.config.topic = DELETED_TOPIC
            self.save_snapshot(snapshot)

    def delete_schema(self, name: str) -> None:
        """Delete a schema; topics that use it refuse what is published to them from now on."""
        self.schemas.delete(name)
        self.policies.drop(name)
        for topic in self.topics.values():
            if topic.config.schema_settings.schema == name:
                topic.config.schema_settings.schema = DELETED_SCHEMA
                self.save_topic(topic)

    def _check_topic(self, config: Proto) -> None:
        limits.check_topic(config)
        if config.HasField("schema_settings"):
            settings = config.schema_settings
            if settings.schema != DELETED_SCHEMA:
                self.schemas.check_settings(settings)

    def _retain(self, topic: TopicState) -> None:
        if not topic.retention_seconds():
            self.release(topic.readers.pop(topic.number, ()))
        elif topic.retained is None:
            topic.readers[topic.number] = topic.log.end()
