"""Subscriptions: made, changed, detached, deleted."""

from embedded_pubsub import limits
from embedded_pubsub.changes import DropSubscription, PutUse
from embedded_pubsub.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
)
from embedded_pubsub.filters import compile_filter
from embedded_pubsub.protos import Proto
from embedded_pubsub.publishing import Publishing
from embedded_pubsub.resources import USED_EVERY_SECONDS, SubscriptionState
from embedded_pubsub.settings import copy, delivery_policy, exports, masked, with_defaults

_FIXED = frozenset({"name", "topic", "filter", "enable_message_ordering", "detached"})


class Subscriptions(Publishing):
    """The subscriptions of a server."""

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
        number = next(self.numbers)
        backlog = self.new_backlog(number, config, topic.log.end(number))
        subscription = SubscriptionState(number, topic.number, number, config, matches, backlog)
        self.add_subscription(subscription)
        self.save_subscription(subscription)
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

    def update_subscription(self, request: Proto, now: float) -> Proto:
        """Apply an `UpdateSubscriptionRequest`; gives the subscription as it is now."""
        subscription = self.subscription(request.subscription.name)
        mask = request.update_mask
        updated = masked(subscription.config, request.subscription, mask, _FIXED)
        return self._configure(subscription, updated, now)

    def modify_push_config(self, request: Proto, now: float) -> Proto:
        """Apply a `ModifyPushConfigRequest`: push from now on, or (empty) be pulled from."""
        subscription = self.subscription(request.subscription)
        updated = copy(subscription.config)
        updated.push_config.CopyFrom(request.push_config)
        return self._configure(subscription, updated, now)

    def use(self, subscription: SubscriptionState, now: float) -> None:
        """Note that a subscription is in use: its expiration starts over."""
        subscription.used = now
        saved = subscription.used_saved
        if saved is None or now - saved >= USED_EVERY_SECONDS:
            subscription.used_saved = now
            self.changes.append(PutUse(subscription.number, now))

    def _configure(self, subscription: SubscriptionState, wanted: Proto, now: float) -> Proto:
        updated = with_defaults(wanted)
        limits.check_subscription(updated)
        self._check_dead_letter_topic(updated)
        subscription.config = updated
        subscription.backlog.policy = delivery_policy(updated)
        if not updated.retain_acked_messages:
            self.forget(subscription.retained)
        self.save_subscription(subscription)
        self.use(subscription, now)
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
        self.save_subscription(subscription)

    def _empty(self, subscription: SubscriptionState) -> None:
        topic = self.topic_numbers.get(subscription.topic)
        if topic is not None:
            for registry in (topic.subscriptions, topic.filtered, topic.readers):
                registry.pop(subscription.number, None)
        messages = list(subscription.backlog.messages())
        subscription.backlog.clear()
        self.release(messages)
        self.forget(subscription.retained)
        self.deliverable.add(subscription)

    def _check_dead_letter_topic(self, config: Proto) -> None:
        if config.HasField("dead_letter_policy"):
            self.topic(config.dead_letter_policy.dead_letter_topic, "dead_letter_topic")
