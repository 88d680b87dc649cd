"""A FastStream broker for Google Cloud Pub/Sub."""

from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.broker import PubSubBroker
from faststream_pubsub.errors import (
    AcknowledgeError,
    ConnectError,
    FlowControlError,
    InvalidMessageError,
    PublishError,
    PubSubError,
    TopologyError,
)
from faststream_pubsub.flow import PublishBatching, PublishFlow
from faststream_pubsub.message import PubSubBatchMessage, PubSubMessage
from faststream_pubsub.response import PubSubPublishCommand, PubSubResponse
from faststream_pubsub.router import PubSubPublisher, PubSubRoute, PubSubRouter
from faststream_pubsub.settings import RetryPolicy
from faststream_pubsub.testing import TestPubSubBroker
from faststream_pubsub.watchdog import PubSubHealth, SubscriptionHealth

__all__ = (
    "AcknowledgeError",
    "ConnectError",
    "FlowControlError",
    "InvalidMessageError",
    "PubSubBatchMessage",
    "PubSubBroker",
    "PubSubError",
    "PubSubHealth",
    "PubSubMessage",
    "PubSubPublishCommand",
    "PubSubPublisher",
    "PubSubResponse",
    "PubSubRoute",
    "PubSubRouter",
    "PublishBatching",
    "PublishError",
    "PublishFlow",
    "RetryPolicy",
    "SubscriptionHealth",
    "TestPubSubBroker",
    "TopicSchema",
    "TopologyError",
)
