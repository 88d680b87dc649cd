"""Metrics for Prometheus, named as those of FastStream's other brokers; needs prometheus-client."""

from collections.abc import Callable, Sequence
from typing import Any

from faststream.message import StreamMessage
from faststream.prometheus import ConsumeAttrs, MetricsSettingsProvider
from faststream.prometheus.middleware import PrometheusMiddleware

from faststream_pubsub._faststream import EMPTY
from faststream_pubsub.deliveries import Batch, Delivery
from faststream_pubsub.response import PubSubPublishCommand

_SYSTEM = "gcp_pubsub"


class PubSubPrometheusMiddleware(PrometheusMiddleware[Delivery | Batch, PubSubPublishCommand]):
    """Counts and times what is received and published."""

    def __init__(
        self,
        *,
        registry: Any,  # noqa: ANN401 - a CollectorRegistry; prometheus_client is optional
        app_name: str = EMPTY,
        metrics_prefix: str = "faststream",
        received_messages_size_buckets: Sequence[float] | None = None,
        custom_labels: dict[str, str | Callable[[Any], str]] | None = None,
    ) -> None:
        """Prepare the metrics.

        Args:
            registry: The `prometheus_client.CollectorRegistry` to register with.
            app_name: Label of all metrics; the prefix if it is left out.
            metrics_prefix: First part of all names.
            received_messages_size_buckets: Bounds of the size histogram, bytes.
            custom_labels: More labels: values, or functions of the delivery.
        """
        super().__init__(
            settings_provider_factory=_provider_for,
            registry=registry,
            app_name=app_name,
            metrics_prefix=metrics_prefix,
            received_messages_size_buckets=received_messages_size_buckets,
            custom_labels=custom_labels,
        )


class PubSubMetricsSettingsProvider(MetricsSettingsProvider[Any, PubSubPublishCommand]):
    """What the metrics of single messages say; the handler's label is its subscription's ID."""

    messaging_system = _SYSTEM

    def get_consume_attrs_from_message(self, msg: StreamMessage[Any]) -> ConsumeAttrs:
        """Subscription, bytes and count."""
        return {
            "destination_name": _subscription_id(msg.raw_message),
            "message_size": len(msg.body),
            "messages_count": 1,
        }

    def get_publish_destination_name_from_cmd(self, cmd: PubSubPublishCommand) -> str:
        """The topic's ID."""
        return cmd.destination


class PubSubBatchMetricsSettingsProvider(PubSubMetricsSettingsProvider):
    """What the metrics of batches say."""

    def get_consume_attrs_from_message(self, msg: StreamMessage[Any]) -> ConsumeAttrs:
        """Subscription, bytes and count."""
        return {
            "destination_name": _subscription_id(msg.raw_message[0]),
            "message_size": sum(map(len, msg.body)),
            "messages_count": len(msg.raw_message),
        }


def _provider_for(raw: Delivery | Batch | None) -> PubSubMetricsSettingsProvider:
    if isinstance(raw, tuple):
        return PubSubBatchMetricsSettingsProvider()
    return PubSubMetricsSettingsProvider()


def _subscription_id(delivery: Delivery) -> str:
    return delivery.subscription.rsplit("/", maxsplit=1)[-1]
