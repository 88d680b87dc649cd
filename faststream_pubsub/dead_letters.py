"""Messages as they go to a dead-letter topic."""

from collections.abc import Mapping
from typing import Final

from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.publishing import build_message
from faststream_pubsub.wire import Proto

REASON_ATTRIBUTE: Final = "dead-letter-reason"
"""Attribute of a dead letter that says why it was rejected."""


def dead_letter(
    delivery: Delivery,
    *,
    reason: str,
    attributes: Mapping[str, str],
) -> Proto:
    """The message as it goes to a dead-letter topic.

    It carries the attributes that the service itself gives to messages it forwards
    (https://cloud.google.com/pubsub/docs/handling-failures), and the reason.
    """
    message = delivery.message
    _, project, _, subscription = delivery.subscription.split("/")
    merged = {
        **message.attributes,
        "CloudPubSubDeadLetterSourceDeliveryCount": str(max(1, delivery.attempt)),
        "CloudPubSubDeadLetterSourceSubscription": subscription,
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": message.publish_time.ToJsonString(),
        **({REASON_ATTRIBUTE: reason} if reason else {}),
        **attributes,
    }
    fitting = {key: _fit(value) for key, value in merged.items()}
    return build_message(message.data, fitting, message.ordering_key)


def _fit(value: str) -> str:
    return value.encode()[:1_024].decode(errors="ignore")
