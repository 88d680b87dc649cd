"""What the settings of a resource mean: defaults, update masks, and the policy of delivery."""

from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.field_mask_pb2 import FieldMask

from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.leases import Backoff, DeliveryPolicy, Entry
from embedded_pubsub.limits import seconds_of
from embedded_pubsub.protos import Proto, Subscription

DEFAULT_ACK_DEADLINE_SECONDS = 10
DEFAULT_RETENTION_SECONDS = 7 * 86_400
DEFAULT_EXPIRATION_SECONDS = 31 * 86_400
DEFAULT_MINIMUM_BACKOFF_SECONDS = 10
DEFAULT_MAXIMUM_BACKOFF_SECONDS = 600
DEFAULT_DELIVERY_ATTEMPTS = 5
DEFAULT_EXPORT_SECONDS = 300
EXPORTS = ("bigquery_config", "cloud_storage_config", "bigtable_config")


def copy(message: Proto) -> Proto:
    """Give an independent equal message."""
    other = type(message)()
    other.CopyFrom(message)
    return other


def with_defaults(subscription: Proto) -> Proto:
    """Give a `Subscription` with what the service fills in where a field is not set."""
    config = copy(subscription)
    if not config.ack_deadline_seconds:
        config.ack_deadline_seconds = DEFAULT_ACK_DEADLINE_SECONDS
    if not config.HasField("message_retention_duration"):
        config.message_retention_duration.seconds = DEFAULT_RETENTION_SECONDS
    if not config.HasField("expiration_policy"):
        config.expiration_policy.ttl.seconds = DEFAULT_EXPIRATION_SECONDS
    _fill_policies(config)
    config.push_config.SetInParent()
    if config.push_config.push_endpoint and not config.push_config.attributes:
        config.push_config.attributes["x-goog-version"] = "v1"
    _fill_export(config)
    config.ClearField("topic_message_retention_duration")
    config.state = Subscription.ACTIVE
    return config


def _fill_policies(config: Proto) -> None:
    if config.HasField("dead_letter_policy"):
        policy = config.dead_letter_policy
        policy.max_delivery_attempts = policy.max_delivery_attempts or DEFAULT_DELIVERY_ATTEMPTS
    if config.HasField("retry_policy"):
        policy = config.retry_policy
        if not policy.HasField("minimum_backoff"):
            policy.minimum_backoff.seconds = DEFAULT_MINIMUM_BACKOFF_SECONDS
        if not policy.HasField("maximum_backoff"):
            policy.maximum_backoff.seconds = DEFAULT_MAXIMUM_BACKOFF_SECONDS


def _fill_export(config: Proto) -> None:
    for name in EXPORTS:
        if config.HasField(name):
            export = getattr(config, name)
            export.state = type(export).ACTIVE
    if config.HasField("cloud_storage_config"):
        export = config.cloud_storage_config
        if not export.HasField("max_duration"):
            export.max_duration.seconds = DEFAULT_EXPORT_SECONDS
        if not export.WhichOneof("output_format"):
            export.text_config.SetInParent()


def exports(subscription: Proto) -> bool:
    """Tell whether a subscription's messages go to another service, which is not run here."""
    return any(subscription.HasField(name) for name in EXPORTS)


def masked(current: Proto, wanted: Proto, mask: FieldMask, fixed: frozenset[str]) -> Proto:
    """Give `current` with the fields that `mask` names taken from `wanted`.

    Args:
        current: The resource as it is.
        wanted: The resource with new values.
        mask: Which fields to take; a field not set in `wanted` is cleared.
        fixed: Fields that can't be changed.

    Raises:
        InvalidArgumentError: The mask is empty, or names a field that is unknown or fixed.
    """
    if not mask.paths:
        raise InvalidArgumentError("update_mask: must name at least one field.")
    for path in mask.paths:
        if path.partition(".")[0] in fixed:
            raise InvalidArgumentError(f"update_mask: {path!r} can't be changed.")
    if not mask.IsValidForDescriptor(current.DESCRIPTOR):
        raise InvalidArgumentError(
            f"update_mask: {', '.join(mask.paths)}: not all are fields of "
            f"{current.DESCRIPTOR.name}."
        )
    updated = copy(current)
    mask.MergeMessage(wanted, updated, replace_message_field=True, replace_repeated_field=True)
    return updated


def delivery_policy(subscription: Proto) -> DeliveryPolicy:
    """Read the settings that delivery depends on; defaults must be filled in."""
    backoff = None
    if subscription.HasField("retry_policy"):
        policy = subscription.retry_policy
        backoff = Backoff(seconds_of(policy.minimum_backoff), seconds_of(policy.maximum_backoff))
    return DeliveryPolicy(
        ack_deadline_seconds=subscription.ack_deadline_seconds,
        ordered=subscription.enable_message_ordering,
        exactly_once=subscription.enable_exactly_once_delivery,
        backoff=backoff,
        max_delivery_attempts=subscription.dead_letter_policy.max_delivery_attempts,
    )


def dead_letter_attributes(subscription_name: str, entry: Entry) -> Mapping[str, str]:
    """Give the attributes that the service adds to a message that it forwards.

    Source: Cloud Pub/Sub documentation, "Handle message failures".
    """
    _, project, _, subscription = subscription_name.split("/")
    published = datetime.fromtimestamp(entry.message.publish_time, UTC)
    return {
        "CloudPubSubDeadLetterSourceDeliveryCount": str(entry.failures),
        "CloudPubSubDeadLetterSourceSubscription": subscription,
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": published.isoformat(timespec="milliseconds"),
    }
